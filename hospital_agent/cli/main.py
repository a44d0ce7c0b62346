"""The `hospital-agent` command's own part; its groups stand beside it."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from consortium.cli.output import Format, print_json, print_result
from consortium.cli.run import run
from hospital_agent.cli import ledger, members
from hospital_agent.cli.options import ApiOption, FormatOption, HomeOption, KeyOption, hospital

app = typer.Typer(
    help="One hospital's side of the consortium: its budget, its policy, its copy of the ledger.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
OldOption = Annotated[
    Path | None,
    typer.Option(help="This hospital's former folder, as of a ledger that the new one continues."),
]
policy_app = typer.Typer(help="What the data owner allows.", no_args_is_help=True)
app.add_typer(policy_app, name="policy")
app.add_typer(members.app, name="members")
app.add_typer(members.keys_app, name="keys")
app.add_typer(ledger.app, name="ledger")


@app.command()
def status(home: HomeOption, format: FormatOption = Format.TABLE) -> None:
    """Show who this hospital is, and how far its verified copy of the ledger goes.

    Example: hospital-agent status --home .medpole/hospitals/hospital-1
    """
    from hospital_agent.replica import Replica
    from ledger.keys import AGENT_ROLES

    folder = hospital(home)
    replica = Replica(folder.path / "replica.sqlite")
    chain = replica.chain()
    content: dict[str, Any] = {
        "institution": folder.institution,
        "title": folder.title,
        "ledger": folder.ledger or "none yet",
        "verified and co-signed to height": replica.height(),
        "members": ", ".join(sorted(chain.members)) if chain else "none yet",
    }
    content |= {f"{role} key": folder.keys[role].public.key_id for role in AGENT_ROLES}
    print_result(content, format)


@app.command()
def budget(home: HomeOption, format: FormatOption = Format.TABLE) -> None:
    """Show privacy spent, reserved and left, for each cohort and job.

    Example: hospital-agent budget --home .medpole/hospitals/hospital-1
    """
    from privacy.budget_status import COVERS

    folder = hospital(home)
    cohorts = [folder.budget.status(cohort) for cohort in folder.budget.cohorts()]
    if format is Format.JSON:
        print_json([_budget_json(cohort) for cohort in cohorts])
        return
    for cohort in cohorts:
        print(f"cohort {cohort.cohort}, delta {cohort.delta}")
        print(
            f"  epsilon spent {cohort.epsilon_spent}, reserved {cohort.epsilon_reserved}, "
            f"limit {cohort.epsilon_limit}; "
            f"a next job may take {cohort.epsilon_left_for_a_next_job}"
        )
        for job in cohort.jobs:
            print(
                f"  {job.job:<28} {job.rounds_charged:>5} rounds charged, "
                f"{job.rounds_reserved:>5} reserved"
            )
    print(COVERS)


def _budget_json(cohort: Any) -> dict[str, Any]:
    return {
        "cohort": cohort.cohort,
        "delta": str(cohort.delta),
        "epsilon_spent": str(cohort.epsilon_spent),
        "epsilon_reserved": str(cohort.epsilon_reserved),
        "epsilon_limit": str(cohort.epsilon_limit),
        "epsilon_left_for_a_next_job": str(cohort.epsilon_left_for_a_next_job),
        "jobs": [
            {
                "job": job.job,
                "rounds_charged": job.rounds_charged,
                "rounds_reserved": job.rounds_reserved,
            }
            for job in cohort.jobs
        ],
    }


@policy_app.command("show")
def policy_show(home: HomeOption, format: FormatOption = Format.TABLE) -> None:
    """Show what the data owner allows.

    Example: hospital-agent policy show --home .medpole/hospitals/hospital-1
    """
    from dataclasses import asdict

    from hospital_agent.policy import Policy

    print_result(asdict(Policy.read(hospital(home).path / "policy.json")), format)


@policy_app.command("set")
def policy_set(
    home: HomeOption,
    lifetime_epsilon: Annotated[
        str | None, typer.Option(help="New limit of every cohort, over all jobs.")
    ] = None,
    fewest_institutions: Annotated[
        int | None, typer.Option(help="Smallest job to take part in.", min=1)
    ] = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Change what the data owner allows. What is spent stays spent.

    Example: hospital-agent policy set --lifetime-epsilon 2 --home .medpole/hospitals/hospital-1
    """
    from dataclasses import asdict

    from hospital_agent.policy import Policy, change_policy

    folder = hospital(home)
    policy: Policy = change_policy(folder, lifetime_epsilon, fewest_institutions)
    print_result(asdict(policy), format)


@app.command()
def enrol(
    home: HomeOption,
    id: Annotated[str, typer.Option(help="The id wanted on the ledger, such as hospital-5.")],
    title: Annotated[str, typer.Option(help="The institution's public name.")],
    out: Annotated[Path, typer.Option(help="The file for the consortium's admin.")],
    ledger: Annotated[
        str | None, typer.Option(help="The ledger's fingerprint, from somebody you trust.")
    ] = None,
    founder: Annotated[
        bool, typer.Option("--founder", help="There is no ledger yet: found one.")
    ] = False,
    old: OldOption = None,
    key: KeyOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Make this hospital's keys, and write what the members, or the founders, decide on.

    The approval key is a person's: a passphrase is asked for at a terminal. With --old patients and
    spent budget come along from a former folder; the agent there must never run again.

    Example: hospital-agent enrol --id hospital-5 --title "Hospital 5" --ledger FINGERPRINT
    --out hospital-5.json --home /srv/medpole
    """
    import os
    import re
    import sys

    from consortium.errors import OptionInvalid
    from hospital_agent.cli.options import PASSPHRASE
    from hospital_agent.enrolment import APPROVER, carry_over, check_names, enrolment_action
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
    path, passphrase = key or home / APPROVER, os.environ.get(PASSPHRASE)
    if passphrase is None and sys.stdin.isatty() and not (home / "member.json").exists():
        passphrase = typer.prompt(
            "Passphrase of the approval key (its person's alone)", hide_input=True,
            confirmation_prompt=not path.exists(), err=True,
        )  # fmt: skip
    form = make_form(folder, path, passphrase)
    content: dict[str, Any] = form.model_dump(mode="json")
    if pinned is not None:
        action = enrolment_action(folder, pinned)
        content = {"ledger": folder.ledger, "action": action.model_dump(mode="json")}
    write_json(out, content)
    fingerprints = {f"{role} key": form.key(role).key_id for role in form.keys}
    print_result({"institution": id, "written": str(out), **fingerprints}, format)


@app.command()
def sign_genesis(
    genesis: Annotated[Path, typer.Argument(help="The genesis.json that the coordinator sent.")],
    home: HomeOption,
    out: Annotated[Path, typer.Option(help="The file for the consortium's admin.")],
    fingerprint: Annotated[
        str | None, typer.Option(help="What it has to be, heard from somebody you trust.")
    ] = None,
    old: OldOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Show the genesis, have it confirmed, and sign it. Binds this hospital to that ledger.

    Without --fingerprint it asks at a terminal: compare with the other founders by telephone.

    Example: hospital-agent sign-genesis genesis.json --fingerprint FINGERPRINT --out signed.json
    """
    import sys

    from consortium.errors import OptionInvalid
    from consortium.founding import read_genesis, signature_file
    from hospital_agent.enrolment import check_continues, check_genesis
    from hospital_agent.enrolment import sign_genesis as sign
    from hospital_agent.errors import GenesisRefused
    from hospital_agent.folder import write_json
    from ledger.chain import ledger_id

    folder, record = hospital(home), read_genesis(genesis)
    check_genesis(folder, record)
    compared = None if old is None else check_continues(record, hospital(old))
    ledger, shown = ledger_id(record), _genesis_shown(record, compared)
    for name, value in shown.items():
        print(f"{name.replace('_', ' ')}: {value}", file=sys.stderr)
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
    write_json(out, signature_file(record, folder.institution, sign(folder, record)))
    print_result({**shown, "signed_by": folder.institution, "written": str(out)}, format)


def _genesis_shown(genesis: Any, compared: int | None) -> dict[str, Any]:
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


@app.command()
def witness(
    home: HomeOption,
    api: ApiOption,
    once: Annotated[bool, typer.Option(help="Follow to the newest block, then end.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.05)] = 1.0,
) -> None:
    """Follow the ledger, derive every block anew, and co-sign it. Runs until it is stopped.

    Prints the height reached, a line each.

    Example: hospital-agent witness --home .medpole/hospitals/hospital-1 --api unix:PATH
    """
    from hospital_agent.connection import connect, witness_forever
    from hospital_agent.ledger_api import LedgerApi
    from hospital_agent.witness import Witness

    folder = hospital(home)
    with connect(api) as client:
        if once:
            print(Witness(folder, LedgerApi(client, folder)).step())
            return
        witness_forever(folder, client, every, lambda height: print(height, flush=True), _tell)


def _tell(error: Any) -> None:
    print(f"error[{error.code}]: {error.what}", file=sys.stderr)
    print(f"how to resolve: {error.resolve}", file=sys.stderr, flush=True)


def main() -> None:
    """Entry point of the `hospital-agent` command."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    run(app)
