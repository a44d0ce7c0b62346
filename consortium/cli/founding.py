"""`consortium init` and `consortium genesis`: a consortium founded by hand, file by file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consortium.cli.home import HomeOption, home_path
from consortium.cli.output import Format, print_result

if TYPE_CHECKING:
    from consortium.founding import Founding

FormatOption = Annotated[Format, typer.Option(help="How the result is printed.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the `consortium` command."""
    app.command()(init)
    app.command()(genesis)


def init(
    title: Annotated[str, typer.Option(help="The consortium's public name.")],
    home: HomeOption = None,
    pool: Annotated[int | None, typer.Option(help="Credits of a round (1000).", min=1)] = None,
    verdicts: Annotated[int | None, typer.Option(help="Of these for verdicts.", min=0)] = None,
    learner_bonus: Annotated[int | None, typer.Option(help="Of these a bonus.", min=0)] = None,
    window: Annotated[int | None, typer.Option(help="Rounds that count.", min=1)] = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Make the coordinator's keys and a draft of a consortium. Back the home up.

    Example: consortium init --title "Heart consortium" --home /srv/medpole
    """
    from consortium.founding import make_draft

    path = home_path(home)
    asked = {"pool": pool, "verdicts": verdicts, "learner_bonus": learner_bonus, "window": window}
    policy, keys = make_draft(path, title, asked)
    content: dict[str, Any] = {"consortium": title, "home": str(path)}
    content |= {f"{role}_key": key.public.key_id for role, key in keys.keys.items()}
    content |= policy.credits.model_dump()
    content["next"] = (
        "invite each founder: consortium institution invite (by files: hospital-agent enrol "
        "--founder, then consortium genesis FORM…)"
    )
    print_result(content, format)


def genesis(
    files: Annotated[
        list[Path] | None, typer.Argument(help="All founders' forms; or, with --signatures, those.")
    ] = None,
    signatures: Annotated[
        bool, typer.Option("--signatures", help="The files are founders' signatures.")
    ] = False,
    approved: Annotated[
        bool, typer.Option("--approved", help="The forms of all founders approved over the API.")
    ] = False,
    continues: Annotated[
        Path | None, typer.Option(help="Export of a ledger that lost its quorum and goes on here.")
    ] = None,
    old_genesis: Annotated[
        str | None, typer.Option("--genesis", help="That ledger's fingerprint.")
    ] = None,
    home: HomeOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Write the genesis over the founders' forms; then take in their signatures on it.

    The ledger begins when all founders have signed. Without files: show who has yet to sign.

    Example: consortium genesis hospital-1.json hospital-2.json; consortium genesis --signatures
    hospital-1.sig.json hospital-2.sig.json
    """
    from consortium.errors import OptionInvalid
    from consortium.founding import (
        approved_forms,
        founding,
        read_continued,
        take_signatures,
        write_genesis,
    )

    path = home_path(home)
    if approved and (files or signatures):
        raise OptionInvalid(
            "--approved is given beside files", "give either: approved founders, or files"
        )
    if approved:
        files = approved_forms(path)
    if (continues is None) != (old_genesis is None) or (continues and (signatures or not files)):
        raise OptionInvalid(
            "--continues is given without --genesis or the founders' forms, or the other way round",
            "give all: `consortium genesis FORM… --continues EXPORT --genesis FINGERPRINT`, the "
            "fingerprint from somebody who pinned the old ledger",
        )
    if signatures:
        state = take_signatures(path, files or [])
    elif files:
        old = None
        if continues is not None and old_genesis is not None:
            old = read_continued(continues, old_genesis.strip().lower())
        state = write_genesis(path, files, old)
    else:
        state = founding(path)
    print_result(_shown(state), format)


def _shown(state: "Founding") -> dict[str, Any]:
    from consortium.cli.ledger import ALONE

    content: dict[str, Any] = {
        "consortium": state.genesis.consortium,
        "genesis": str(state.path),
        "fingerprint": state.ledger,
        "founders": list(state.founders),
        "signed_by": list(state.signed),
        "missing": list(state.missing),
        "final": state.final,
    }
    if (old := state.genesis.continues) is not None:
        content["continues"] = f"{old.ledger} from block {old.height}, {old.block}"
    if len(state.founders) == 1:
        content["warning"] = ALONE
    if state.final:
        content["next"] = "consortium serve; each founder: hospital-agent witness"
    elif state.missing:
        content["next"] = "those missing: hospital-agent sign-genesis (by files: with genesis.json)"
    else:
        content["next"] = "consortium genesis --signatures, once more"
    return content
