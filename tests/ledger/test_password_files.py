"""A database's password in a file of its own. That such accounts connect: tests/network."""

import os
from pathlib import Path

import pytest

from ledger.database import check_database, make_roles, upgrade_database
from ledger.errors import DatabaseMissing, DatabaseUnreachable

URL = "postgresql://medpole_app@127.0.0.1:1/medpole"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        if variable.startswith(("DATABASE_", "MEDPOLE_")):
            monkeypatch.delenv(variable)


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe"])
def test_a_file_without_a_password_is_named(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "application"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("DATABASE_PASSWORD_FILE", str(path))
    with pytest.raises(DatabaseMissing, match="in DATABASE_PASSWORD_FILE is empty or cannot"):
        check_database()


def test_each_account_has_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDPOLE_MIGRATOR_URL", URL)
    monkeypatch.setenv("DATABASE_PASSWORD_FILE", str(tmp_path / "none"))
    with pytest.raises(DatabaseUnreachable):  # it is the application's, and not read
        upgrade_database(tmp_path)
    monkeypatch.setenv("MEDPOLE_MIGRATOR_PASSWORD_FILE", str(tmp_path / "none"))
    with pytest.raises(DatabaseMissing, match="MEDPOLE_MIGRATOR_PASSWORD_FILE"):
        upgrade_database(tmp_path)


def test_a_password_in_the_url_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL.replace("@", ":given@"))
    monkeypatch.setenv("DATABASE_PASSWORD_FILE", str(tmp_path / "none"))
    with pytest.raises(DatabaseUnreachable):
        check_database()


def test_roles_need_an_administrator_and_passwords_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DatabaseMissing, match="MEDPOLE_ADMIN_URL is not set"):
        make_roles()
    monkeypatch.setenv("MEDPOLE_ADMIN_URL", URL)
    monkeypatch.setenv("MEDPOLE_AUDITOR_PASSWORD_FILE", str(tmp_path / "none"))
    with pytest.raises(DatabaseMissing, match="MEDPOLE_AUDITOR_PASSWORD_FILE"):
        make_roles()
