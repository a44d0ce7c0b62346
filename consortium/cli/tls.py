"""`consortium tls`: the CA that hospitals pin, and the server's certificate."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from consortium.cli.home import HomeOption, home_path
from consortium.cli.output import Format, print_result

if TYPE_CHECKING:
    from consortium.tls import Tls

app = typer.Typer(help="The consortium's own certificates.", no_args_is_help=True)
FormatOption = Annotated[Format, typer.Option(help="How the result is printed.")]


@app.command()
def make(
    hosts: Annotated[
        list[str] | None,
        typer.Argument(help="DNS names or addresses that hospitals reach; again: as before."),
    ] = None,
    days: Annotated[
        int, typer.Option(help="How long the server's certificate holds.", min=1, max=825)
    ] = 825,
    home: HomeOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Make the CA, once, and the server's certificate; run again, renew the certificate.

    No hospital notices a renewal: they pin the CA. Restart the proxy and the SuperLink after it.

    Example: consortium tls make medpole.example.org --home /srv/medpole
    """
    from consortium.tls import make_tls

    print_result(_shown(make_tls(home_path(home), hosts or [], days)), format)


@app.command()
def show(home: HomeOption = None, format: FormatOption = Format.TABLE) -> None:
    """Show the CA's SHA-256, which every invitation carries, and when the certificates end.

    Example: consortium tls show --home /srv/medpole
    """
    from consortium.tls import read_tls

    print_result(_shown(read_tls(home_path(home))), format)


def _shown(tls: "Tls") -> dict[str, Any]:
    return {
        "ca_sha256": tls.fingerprint.hex(),
        "ca_expires": tls.ca.not_valid_after_utc.isoformat(),
        "server_names": list(tls.names),
        "server_expires": tls.server.not_valid_after_utc.isoformat(),
        "folder": str(tls.folder),
    }
