"""`hospital-agent enrol` and `sign-genesis`: how a hospital joins, with a token or by files."""

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consortium.cli.output import Format, print_result
from hospital_agent.cli.options import (
    PASSPHRASE,
    ApiOption,
    FormatOption,
    HomeOption,
    KeyOption,
    hospital,
)

if TYPE_CHECKING:
    from ledger.records import Genesis

OldOption = Annotated[
    Path | None,
    typer.Option(help="This hospital's former folder, as of a ledger that the new one continues."),
]


def register(app: typer.Typer) -> None:
    """Adds the commands to the `hospital-agent` command."""
    app.command()(enrol)
    app.command()(sign_genesis)


def enrol(
    home: HomeOption,
    url: Annotated[str | None, typer.Argument(help="Where the consortium is.")] = None,
    token: Annotated[str | None, typer.Argument(help="The invitation: MPL1.…")] = None,
    id: Annotated[
        str | None, typer.Option(help="By files: the id wanted on the ledger, as hospital-5.")
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="By files: the institution's public name.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="By files: the file for the consortium's admin.")
    ] = None,
    ledger: Annotated[
        str | None,
        typer.Option(help="By files: the ledger's fingerprint, from somebody you trust."),
    ] = None,
    founder: Annotated[
        bool, typer.Option("--founder", help="By files: there is no ledger yet, found one.")
    ] = False,
    old: OldOption = None,
    key: KeyOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Make this hospital's keys, and ask the consortium to let it in. Run it again at any time.

    With the URL and TOKEN of an invitation: nothing is sent before the server has shown the
    certificate that the token names. Read the fingerprints printed to the admin by telephone.

    By files, without a network: --id, --title, --out, and --ledger or --founder.

    The approval key is a person's: a passphrase is asked for at a terminal. With --old patients and
    spent budget come along from a former folder; the agent there must never run again.

    Example: hospital-agent enrol https://medpole.example.org:8443 MPL1.… --home /srv/medpole
    """
    from consortium.errors import OptionInvalid

    if url is None:
        if id is None or title is None or out is None:
            raise OptionInvalid(
                "neither an invitation's URL and TOKEN are given, nor --id, --title and --out",
                "run the line that came with the invitation",
            )
        _enrol_by_files(home, id, title, out, ledger, founder, old, key, format)
        return
    if token is None or founder or any(x is not None for x in (id, title, out, ledger)):
        raise OptionInvalid(
            "a URL is given without a TOKEN, or with options for files",
            "run the line that came with the invitation, and add --home only",
        )
    from hospital_agent.enrolment import carry_over
    from hospital_agent.folder import HospitalFolder
    from hospital_agent.joining import ask, join

    invited = ask(url, token)
    former = None if old is None else hospital(old)
    fingerprint, founding = invited.token.ledger, invited.token.founder
    print(
        f"{invited.consortium} invites {invited.institution}, {invited.title!r}, as a "
        f"{'founder' if founding else 'member'}; its fingerprint: {fingerprint}",
        file=sys.stderr,
    )
    folder = HospitalFolder.create(home, invited.institution, invited.title)
    if former is not None:
        carry_over(former, folder)
    joined = join(folder, invited, key, _passphrase(home, key))
    content: dict[str, Any] = {
        "institution": invited.institution,
        "title": invited.title,
        "consortium": invited.consortium,
        "fingerprint": fingerprint,
        **joined.fingerprints,
        "folder": str(home),
        "next": "read these to the consortium's admin by telephone; once approved: hospital-agent "
        + ("sign-genesis" if founding else "start"),
    }
    print_result(content, format)


def _enrol_by_files(
    home: Path, id: str, title: str, out: Path, ledger: str | None, founder: bool,
    old: Path | None, key: Path | None, format: Format,
) -> None:  # fmt: skip
    from consortium.errors import OptionInvalid
    from hospital_agent.enrolment import carry_over, check_names, enrolment_action
    from hospital_agent.enrolment import enrol as make_form
    from hospital_agent.folder import HospitalFolder, write_json

    if (ledger is None) is not founder:
        raise OptionInvalid(
            "neither or both of --ledger and --founder are given",
            "give --ledger FINGERPRINT to join a ledger, or --founder to found one",
        )
    pinned = None if ledger is None else ledger.strip().lower()
    if pinned is not None and not re.fullmatch(r"[0-9a-f]{64}", pinned):
        raise OptionInvalid(
            "--ledger is no fingerprint", "copy all 64 digits: the folder is bound to it for good"
        )
    check_names(id, title)
    former = None if old is None else hospital(old)
    folder = HospitalFolder.create(home, id, title)
    if former is not None:
        carry_over(former, folder)
    form = make_form(folder, key, _passphrase(home, key))
    content: dict[str, Any] = form.model_dump(mode="json")
    if pinned is not None:
        action = enrolment_action(folder, pinned)
        content = {"ledger": folder.ledger, "action": action.model_dump(mode="json")}
    write_json(out, content)
    fingerprints = {f"{role} key": form.key(role).key_id for role in form.keys}
    print_result({"institution": id, "written": str(out), **fingerprints}, format)


def _passphrase(home: Path, key: Path | None) -> str | None:
    """The approval key's, of its person; asked for where the key is opened or made."""
    from hospital_agent.enrolment import APPROVER

    passphrase = os.environ.get(PASSPHRASE)
    if passphrase is not None or not sys.stdin.isatty() or (home / "member.json").exists():
        return passphrase
    made = (key or home / APPROVER).exists()
    asked = "Passphrase of the approval key (its person's alone)"
    return str(typer.prompt(asked, hide_input=True, confirmation_prompt=not made, err=True))


def sign_genesis(
    home: HomeOption,
    api: ApiOption,
    genesis: Annotated[
        Path | None,
        typer.Argument(help="By files: the genesis.json that the coordinator sent."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="By files: the file for the consortium's admin.")
    ] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="What it has to be, heard from somebody you trust.")
    ] = None,
    old: OldOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Show the genesis, have it confirmed, and sign it. Binds this hospital to that ledger.

    Without a file it is fetched from where this hospital enrolled, and the signature sent there.
    Without --fingerprint it asks at a terminal: compare with the other founders by telephone.

    Example: hospital-agent sign-genesis --fingerprint FINGERPRINT
    """
    from consortium.errors import OptionInvalid
    from consortium.founding import read_genesis, signature_file
    from hospital_agent.connection import connect
    from hospital_agent.enrolment import check_continues, check_genesis
    from hospital_agent.enrolment import sign_genesis as sign
    from hospital_agent.folder import write_json
    from hospital_agent.joining import fetch_genesis, send_signature
    from ledger.chain import ledger_id

    if genesis is not None and out is None:
        raise OptionInvalid("a genesis is given without --out", "name the file to write")
    folder = hospital(home)
    if genesis is not None:
        record = read_genesis(genesis)
    else:
        with connect(folder, api) as client:
            record = fetch_genesis(client)
    check_genesis(folder, record)
    compared = None if old is None else check_continues(record, hospital(old))
    shown = _genesis_shown(record, compared)
    for name, value in shown.items():
        print(f"{name.replace('_', ' ')}: {value}", file=sys.stderr)
    _confirm(ledger_id(record), fingerprint)
    signature = signature_file(record, folder.institution, sign(folder, record))
    content: dict[str, Any] = {**shown, "signed_by": folder.institution}
    if out is not None:
        write_json(out, signature)
        content["written"] = str(out)
    if genesis is None:
        with connect(folder, api) as client:
            content["missing"] = send_signature(client, signature)
    print_result(content, format)


def _confirm(ledger: str, fingerprint: str | None) -> None:
    from consortium.errors import OptionInvalid
    from hospital_agent.errors import GenesisRefused

    if fingerprint is not None:
        if fingerprint.strip().lower() != ledger:
            raise GenesisRefused(
                f"the genesis has the fingerprint {ledger}, not the one given",
                "do not sign; ask the coordinator and another founder which is right",
            )
    elif not sys.stdin.isatty():
        raise OptionInvalid(
            "nobody is at a terminal to confirm the fingerprint",
            "give it with --fingerprint, as another founder read it to you",
        )
    elif not typer.confirm("Do all founders have this fingerprint? Sign?", err=True):
        raise GenesisRefused("not confirmed, not signed", "compare it, then start again")


def _genesis_shown(genesis: "Genesis", compared: int | None) -> dict[str, Any]:
    """What a founder agrees on."""
    from ledger.chain import ledger_id
    from ledger.keys import Role
    from ledger.membership import Membership
    from ledger.quorum import quorum

    count, credits, ledger = len(genesis.founders), genesis.policy.credits, ledger_id(genesis)
    coordinator = Membership.of_genesis(genesis, ledger).coordinator_key(Role.RECORD)
    content: dict[str, Any] = {"consortium": genesis.consortium, "fingerprint": ledger}
    content["coordinator"] = f"record {coordinator.key_id}"
    for member in genesis.founders:
        keys = " ".join(f"{role} {member.key(role).key_id}" for role in (Role.RECORD, Role.COSIGN))
        content[f"founder {member.id}"] = f"{member.title!r}, {keys}"
    content["quorum"] = f"{quorum(count)} of {count}"
    if count == 1:
        content["warning"] = "one institution: no independent witness"
    content["credits_of_a_round"] = (
        f"{credits.pool}, of these {credits.verdicts} for verdicts, {credits.learner_bonus} for "
        f"the learner, over {credits.window} rounds"
    )
    if (old := genesis.continues) is not None:
        content["continues"] = f"{old.ledger} from block {old.height}, {old.block}"
        content["compared"] = (
            "with no copy of that ledger: name one with --old"
            if compared is None
            else "agrees with this hospital's copy, which is final to no later block"
        )
    return content
