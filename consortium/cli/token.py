"""`consortium token`: what people show the API, as an institution shows its key."""

from typing import Annotated

import typer

from consortium.cli.duration import seconds, when
from consortium.cli.home import HomeOption, existing_home
from consortium.cli.output import Format, print_json, print_result

app = typer.Typer(help="Tokens by which people read the API.", no_args_is_help=True)
FormatOption = Annotated[Format, typer.Option(help="How the result is printed.")]


@app.command()
def issue(
    name: Annotated[str, typer.Argument(help="Whose it is: a person, or a program.")],
    role: Annotated[str, typer.Option(help="admin, scientist or auditor")],
    expires: Annotated[str, typer.Option(help="How long it is valid: 30d, 12h, 30m.")] = "30d",
    home: HomeOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Print a new token. It is shown this once; stored is only its SHA-256.

    Example: consortium token issue "Ada Byron" --role auditor --expires 7d
    """
    from consortium.access import PEOPLE, AccessTokens, Role
    from consortium.errors import OptionInvalid

    if role not in PEOPLE:
        raise OptionInvalid(
            f"--role is {role[:20]!r}", f"give one of: {', '.join(PEOPLE)}; institutions use keys"
        )
    if not name.strip() or len(name) > 80 or not name.isprintable():
        raise OptionInvalid("the name is empty, too long or not printable", "give 1 to 80 letters")
    token, text = AccessTokens(existing_home(home)).issue(name, Role(role), seconds(expires))
    print_result(
        {
            "id": token.id, "name": token.name, "role": str(token.role),
            "expires": when(token.expires), "token": text,
        },
        format,
    )  # fmt: skip


@app.command("list")
def list_(home: HomeOption = None, format: FormatOption = Format.TABLE) -> None:
    """Show all tokens: whose, which role, until when. Never the tokens themselves.

    Example: consortium token list
    """
    import time

    from consortium.access import AccessTokens

    now = time.time()
    found = AccessTokens(existing_home(home)).all()
    if format is Format.JSON:
        print_json(
            [
                {
                    "id": t.id, "name": t.name, "role": str(t.role), "state": t.state(now),
                    "created": when(t.created), "expires": when(t.expires),
                }
                for t in found
            ]
        )  # fmt: skip
        return
    for t in found:
        print(f"{t.id}  {t.role:<10}  {t.state(now):<8}  until {when(t.expires)}  {t.name}")
    if not found:
        print("no tokens: consortium token issue")


@app.command()
def revoke(
    id: Annotated[str, typer.Argument(help="The token's id, as `consortium token list` shows it.")],
    home: HomeOption = None,
) -> None:
    """Take a token back: the next request with it is refused.

    Example: consortium token revoke 0a1b2c3d
    """
    from consortium.access import AccessTokens

    AccessTokens(existing_home(home)).revoke(id)
    print(f"{id} is revoked")
