"""`consortium oidc`: whether people can sign in at the provider that a home names."""

from typing import Annotated

import typer

from consortium.cli.home import HomeOption, existing_home
from consortium.cli.output import Format, print_result


def register(app: typer.Typer) -> None:
    """Adds the command to the `consortium` command."""
    app.command()(oidc)


def oidc(
    home: HomeOption = None,
    format: Annotated[Format, typer.Option(help="How the result is printed.")] = Format.TABLE,
) -> None:
    """Check HOME/oidc.json, and that the OpenID provider it names publishes its keys.

    Example: consortium oidc --home /srv/medpole
    """
    from consortium.api.oidc import FILE, read_oidc
    from consortium.errors import OidcInvalid

    path = existing_home(home)
    provider = read_oidc(path)
    if provider is None:
        raise OidcInvalid(f"there is no {path / FILE}", "docs/api.md shows what it holds")
    provider.keys.fetch()
    config = provider.config
    print_result(
        {
            "issuer": config.issuer, "audience": config.audience,
            "role_claim": config.role_claim, "name_claim": config.name_claim,
            "roles": [f"{value} -> {role}" for value, role in config.roles.items()],
            "keys": provider.keys.ids(),
        },
        format,
    )  # fmt: skip
