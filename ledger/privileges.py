"""What a database account could do to the ledger besides reading and appending.

The application's account should be able to do nothing else. Where one account both migrates and
appends, or an administrator's is used, the database still refuses changes by its triggers, but that
account could remove them: whoever shows the ledger's state says so.
"""

from dataclasses import dataclass

from sqlalchemy import Engine, text

from ledger.schema import disclosures, metadata

_TABLES = [name for name in metadata.tables if name != disclosures.name]


@dataclass(frozen=True)
class Privileges:
    """What a database account could do to the ledger besides reading and appending.

    ``reasons`` are stable words: superuser, server-files, create-role, owner, update, delete,
    truncate, trigger. The triggers still refuse the last four, and the owner until it drops them.
    """

    role: str
    reasons: tuple[str, ...]

    @property
    def could_alter(self) -> bool:
        """Whether this account could change or remove what is on the ledger."""
        return bool(self.reasons)

    @property
    def warning(self) -> str | None:
        """The same in words, None where it could not."""
        if not self.reasons:
            return None
        return (
            f"the database account {self.role} could change the ledger's tables "
            f"({', '.join(self.reasons)}): only co-signed heads would show it"
        )


def privileges(engine: Engine) -> Privileges:
    """Ask whether the connected account could alter the ledger's tables."""
    with engine.connect() as connection:
        found = connection.execute(text(_PRIVILEGES), {"tables": _TABLES}).mappings().one()
    if found["superuser"]:
        return Privileges(found["role"], ("superuser",))
    names = [name for name in found if name != "role" and found[name]]
    return Privileges(found["role"], tuple(name.replace("_", "-") for name in names))


# MEMBER, not USAGE: also the roles that the account would have to SET ROLE to. Before PostgreSQL
# 16, CREATEROLE could grant itself any role that is no superuser.
_PRIVILEGES = """
    WITH tables AS (
        SELECT oid, relowner AS owner FROM pg_class
        WHERE relname = ANY(:tables) AND relkind = 'r' AND pg_table_is_visible(oid)
    ), owners AS (
        SELECT owner FROM tables
        UNION SELECT proowner FROM pg_proc
            WHERE proname = 'refuse_change' AND pg_function_is_visible(oid)
        UNION SELECT nspowner FROM pg_namespace WHERE nspname = current_schema()
        UNION SELECT datdba FROM pg_database WHERE datname = current_database()
    )
    SELECT
        current_user AS role,
        rolsuper AS superuser,
        pg_has_role('pg_write_server_files', 'MEMBER')
            OR pg_has_role('pg_execute_server_program', 'MEMBER') AS server_files,
        rolcreaterole AND (current_setting('server_version_num')::int < 160000 OR EXISTS (
            SELECT FROM owners WHERE pg_has_role(owner, 'MEMBER WITH ADMIN OPTION')
        )) AS create_role,
        EXISTS (SELECT FROM owners WHERE pg_has_role(owner, 'MEMBER')) AS owner,
        EXISTS (SELECT FROM tables WHERE has_any_column_privilege(oid, 'UPDATE')) AS update,
        EXISTS (SELECT FROM tables WHERE has_table_privilege(oid, 'DELETE')) AS delete,
        EXISTS (SELECT FROM tables WHERE has_table_privilege(oid, 'TRUNCATE')) AS truncate,
        EXISTS (SELECT FROM tables WHERE has_table_privilege(oid, 'TRIGGER')) AS trigger
    FROM pg_roles WHERE rolname = current_user
"""
