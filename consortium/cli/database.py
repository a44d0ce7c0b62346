"""`consortium db`: the ledger's PostgreSQL, its schema and its roles."""

from dataclasses import asdict
from typing import Annotated

import typer

from consortium.cli.home import HomeOption, home_path
from consortium.cli.output import Format, print_json, print_result

app = typer.Typer(help="The ledger's PostgreSQL: schema and roles.", no_args_is_help=True)
FormatOption = Annotated[Format, typer.Option(help="How the result is printed.")]


@app.command()
def upgrade(home: HomeOption = None, format: FormatOption = Format.TABLE) -> None:
    """Bring the database to the newest schema, with the account in MEDPOLE_MIGRATOR_URL.

    Without it DATABASE_URL's account does it; without either, the embedded database of --home.

    Example: consortium db upgrade --home .medpole
    """
    from ledger.database import upgrade_database

    done = upgrade_database(home_path(home))
    print_result({name: value for name, value in asdict(done).items() if value}, format)


@app.command()
def roles(
    apply: Annotated[
        bool,
        typer.Option("--apply", help="Make them, with the administrator in MEDPOLE_ADMIN_URL."),
    ] = False,
    format: FormatOption = Format.TABLE,
) -> None:
    """Print the SQL with which an administrator makes the roles, in the ledger's database.

    It may be run again at any time. With --apply nobody has to be there: passwords come from the
    files in DATABASE_PASSWORD_FILE, MEDPOLE_MIGRATOR_PASSWORD_FILE, MEDPOLE_AUDITOR_PASSWORD_FILE.

    Example: consortium db roles | psql -d medpole
    """
    from ledger.database import make_roles, roles_script

    if apply:
        print_result({"passwords_set": make_roles()}, format)
        return
    statements, logins = roles_script()
    passwords = [f"\\password {role}" for role in logins]
    if format is Format.JSON:
        print_json({"sql": statements, "psql": passwords})
        return
    print("-- For psql, by an administrator, in the ledger's database.\n\\set ON_ERROR_STOP on\n")
    print(statements)
    print("\n".join(passwords))
