"""`consortium reward`: what each institution earned, and with what."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consortium.cli.home import HomeOption, home_path
from consortium.cli.output import Format, print_json
from consortium.errors import OptionInvalid

if TYPE_CHECKING:
    from consortium.accounts import Accounts
    from consortium.standing import Account

app = typer.Typer(help="Rewards: summed anew from the ledger alone.", no_args_is_help=True)
FormatOption = Annotated[Format, typer.Option(help="How the result is printed.")]
ExportOption = Annotated[
    Path | None,
    typer.Option(help="An exported folder or .tar file, verified first, instead of a database."),
]
GenesisOption = Annotated[
    str | None, typer.Option(help="With --export: the ledger's fingerprint to compare.")
]
_COLUMNS = {
    "accepted": "accepted", "rejected": "rejected", "absent": "absent", "shapley": "Shapley",
    "learning": "learning", "verdicts": "fees", "bonus": "bonuses", "credits": "credits",
}  # fmt: skip


@app.command("list")
def list_(
    job: Annotated[str | None, typer.Option(help="Of one job (default: of all).")] = None,
    export: ExportOption = None,
    genesis: GenesisOption = None,
    home: HomeOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Show what each institution contributed and earned, up to the newest final block.

    Example: consortium reward list --job heart-disease-1
    """
    with _accounts(export, genesis, home) as accounts:
        totals = accounts.totals(job)
        _show(accounts, "institution", totals, {"job": job}, format)


@app.command()
def statement(
    institution: Annotated[str, typer.Argument(help="The institution's id.")],
    export: ExportOption = None,
    genesis: GenesisOption = None,
    home: HomeOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Show what each job brought an institution, up to the newest final block.

    Example: consortium reward statement cleveland
    """
    with _accounts(export, genesis, home) as accounts:
        lines = accounts.statement(institution)
        _show(accounts, "job", lines, {"institution": institution}, format)


@contextmanager
def _accounts(export: Path | None, genesis: str | None, home: Path | None) -> Iterator["Accounts"]:
    from consortium.accounts import accounts_of_export, accounts_of_store

    if export is None:
        from consortium.local import open_ledger

        if genesis is not None:
            raise OptionInvalid(
                "--genesis is given without --export", "give both, or neither: the home's own "
                "database is not an auditor's source",
            )  # fmt: skip
        with open_ledger(home_path(home), shared=True) as (_, store):
            yield accounts_of_store(store)
        return
    from ledger.archive import opened

    with opened(export) as folder:
        yield accounts_of_export(folder, genesis.strip().lower() if genesis else None)


def _show(
    accounts: "Accounts", of: str, rows: Mapping[str, "Account"], about: Mapping[str, str | None],
    format: Format,
) -> None:  # fmt: skip
    lines = [
        {of: name, **vars(account), "credits": account.credits} for name, account in rows.items()
    ]
    if format is Format.JSON:
        print_json(
            {
                "ledger": accounts.ledger, "height": accounts.height, "hash": accounts.hash,
                **about, "lines": lines, "credits": sum(line["credits"] for line in lines),
            }
        )  # fmt: skip
        return
    if not lines:
        print("no jobs: consortium job submit")
        return
    _print_table(of, lines)
    print(
        f"Up to block {accounts.height:,}, summed from the ledger. Shapley: of accepted proofs, in "
        "basis points of AUROC.\nThat results follow from their verdicts: "
        "`consortium ledger verify EXPORT --rounds`."
    )


def _print_table(of: str, lines: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column(of, overflow="fold")
    for title in _COLUMNS.values():
        table.add_column(title, justify="right")
    for line in lines:
        table.add_row(line[of], *(f"{line[name]:,}" for name in _COLUMNS))
    table.add_section()
    table.add_row("all", *(f"{sum(line[name] for line in lines):,}" for name in _COLUMNS))
    console = Console(width=None if Console().is_terminal else 100)
    console.print(table)
