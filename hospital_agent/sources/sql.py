"""A query on a hospital's database: any that SQLAlchemy has a driver for.

The transaction is read-only where the database knows that (PostgreSQL, SQLite), rolled back
everywhere, and rows come through a cursor on the server's side, a chunk at a time. A password comes
from a file or from the environment: in an address it would stand in the shell's history and in the
list of processes. Errors say the database's code, never its text, which may quote a row.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from hospital_agent.errors import (
    DatabaseUnreadable,
    SecretInAddress,
    SourceEmpty,
    SourceUnsupported,
)
from hospital_agent.sources.source import CHUNK, check_header, frame_of, rows_of_a_chunk

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import URL, Connection, Executable

PASSWORD: Final = "MEDPOLE_SOURCE_PASSWORD"  # noqa: S105 (the variable's name)
_DRIVERS: Final = {"postgresql": "postgresql+psycopg2", "postgres": "postgresql+psycopg2"}
_SECRETS: Final = frozenset({"password", "passwd", "pwd", "sslpassword"})
_READS: Final = re.compile(r"\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*(?:select|with)\b", re.I | re.S)


_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/", re.S)
_READ_ONLY: Final = {"options": "-c default_transaction_read_only=on"}


class SqlQuery:
    """The rows that a query gives."""

    kind = "sql"

    def __init__(self, database: "Database", query: str) -> None:
        from sqlalchemy import text

        bare = query.strip().rstrip(";")
        if not _READS.match(bare) or ";" in _QUOTED.sub("", bare):
            raise DatabaseUnreadable(
                "the query is not one statement that begins with SELECT or WITH",
                "write one query that only reads",
            )
        self._database = database
        self._query = text(bare.replace(":", "\\:"))

    def columns(self) -> list[str]:
        """The names that the query gives its columns.

        Raises:
            DatabaseUnreadable: if the database does not answer to it.
        """
        with self._database.rows(self._query) as result:
            return _header(result)

    def chunks(self, columns: Sequence[str] | None = None) -> "Iterator[pd.DataFrame]":
        """All rows, as `Source.chunks` describes them.

        Raises:
            DatabaseUnreadable: if the database does not answer to it.
        """
        with self._database.rows(self._query) as result:
            header = _header(result)
            wanted = list(header if columns is None else columns)
            yield from chunks_of(result, wanted, [header.index(name) for name in wanted])


class Database:
    """One database, opened for each question and only read.

    Raises:
        SecretInAddress: if the address holds a password.
        SourceUnsupported: if there is no driver for it.
    """

    def __init__(self, address: str, password_file: Path | None = None) -> None:
        from sqlalchemy import create_engine
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            url = make_url(address)
        except ArgumentError:
            raise SourceUnsupported(
                "the address is none of a database",
                "write it like postgresql://USER@HOST/DATABASE or sqlite:////path/to/file",
            ) from None
        if url.password is not None or _SECRETS & {*map(str.lower, url.query)}:
            raise SecretInAddress(
                "the database's address holds a password",
                f"leave it out; put it into a file and give --password-file, or set {PASSWORD}; "
                "and change it, since it stands in the shell's history",
            )
        url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
        url = _with_password(url, password_file)
        self.dialect = url.get_backend_name()
        if self.dialect == "sqlite":
            url = _read_only_file(url)
        try:
            arguments = _READ_ONLY if self.dialect == "postgresql" else {}
            self._engine = create_engine(url, connect_args=arguments, hide_parameters=True)
        except ImportError:
            raise SourceUnsupported(
                f"no driver for {self.dialect} is installed here",
                "install the driver that SQLAlchemy names for this database",
            ) from None
        except Exception as error:
            raise _unreadable(error) from None

    @contextmanager
    def connected(self) -> Iterator["Connection"]:
        """A connection in a transaction that only reads, and is rolled back.

        Raises:
            DatabaseUnreadable: if the database does not answer, or not to what is asked.
        """
        from sqlalchemy.exc import SQLAlchemyError

        options: dict[str, Any] = {"stream_results": True, "yield_per": CHUNK}
        if self.dialect == "postgresql":
            options |= {"postgresql_readonly": True, "isolation_level": "REPEATABLE READ"}
        try:
            with self._engine.connect().execution_options(**options) as connection:
                if self.dialect == "sqlite":
                    connection.exec_driver_sql("PRAGMA query_only = ON")
                yield connection
                connection.rollback()
        except SQLAlchemyError as error:
            raise _unreadable(error) from None
        finally:
            self._engine.dispose()

    @contextmanager
    def rows(self, query: "Executable") -> Iterator[Any]:
        """What a query gives, row by row."""
        with self.connected() as connection:
            yield connection.execute(query)


def chunks_of(result: Any, names: Sequence[str], places: Sequence[int]) -> "Iterator[pd.DataFrame]":
    """A result's rows as chunks of texts.

    Raises:
        SourceEmpty: if there is none.
    """
    empty = True
    for rows in result.partitions(rows_of_a_chunk(len(names))):
        empty = False
        columns = list(zip(*rows, strict=True))
        yield frame_of(names, [list(map(_text, columns[place])) for place in places])
    if empty:
        raise SourceEmpty("the query gives no row", "check its conditions")


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return str(int(value)) if isinstance(value, bool) else str(value)


def _header(result: Any) -> list[str]:
    names = list(map(str, result.keys()))
    check_header(names)
    return names


def _with_password(url: "URL", file: Path | None) -> "URL":
    password = os.environ.get(PASSWORD)
    if file is not None:
        try:
            password = file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise DatabaseUnreadable(
                "the file with the password cannot be read", "check --password-file"
            ) from None
    return url if not password else url.set(password=password)


def _read_only_file(url: "URL") -> "URL":
    path = Path(url.database or "")
    if not path.is_file():
        raise DatabaseUnreadable(
            "there is no SQLite file at this address",
            "write it like sqlite:////path/to/file, with four slashes before an absolute path",
        )
    return url.set(database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})


def _unreadable(error: Exception) -> DatabaseUnreadable:
    """By kind and code: a database's text may hold a row's values."""
    code = getattr(getattr(error, "orig", None), "pgcode", None)
    said = type(error).__name__ + (f", SQLSTATE {code}" if code else "")
    return DatabaseUnreadable(
        f"the database does not answer to this ({said})",
        "check address, user and query with the database's own client; the query may only read",
    )
