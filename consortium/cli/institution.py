"""`consortium institution`: who is a member, and proposals to change that.

Nothing here takes effect by itself: the members' people approve (`hospital-agent members approve`).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consortium.cli.home import HomeOption, home_path
from consortium.cli.output import Format, print_json, print_result

if TYPE_CHECKING:
    from ledger.membership import Membership
    from ledger.records import Action

app = typer.Typer(help="The institutions on the ledger.", no_args_is_help=True)
policy_app = typer.Typer(help="What the members have agreed on.", no_args_is_help=True)
FormatOption = Annotated[Format, typer.Option(help="How the result is printed.")]
IdArgument = Annotated[str, typer.Argument(help="The institution's id on the ledger.")]


@app.command("list")
def list_(home: HomeOption = None, format: FormatOption = Format.TABLE) -> None:
    """Show who is a member, who is suspended, and which changes wait for approvals.

    Example: consortium institution list --home .medpole
    """
    from consortium.api.wire import membership_to_wire
    from consortium.local import open_ledger

    with open_ledger(home_path(home), shared=True) as (_, store):
        chain = store.chain()
    if format is Format.JSON:
        print_json(membership_to_wire(chain.upcoming))
        return
    print_membership(chain.upcoming)


def print_membership(membership: "Membership") -> None:
    """Prints who is in force, and what waits for approvals."""
    from consortium.membership_text import describe
    from ledger.keys import Role

    for state, members in (("member", membership.members), ("suspended", membership.suspended)):
        for name in sorted(members):
            form = members[name]
            print(f"{state:<10}{name:<24}{form.title:<32}{form.key(Role.RECORD).key_id}")
    count = len(membership.members)
    print(f"\n{membership.quorum} of {count} must co-sign a block and approve a change")
    if count == 1:
        print("one institution: no independent witness")
    elif count < 4:
        print("fewer than four institutions: no member may lie")
    for digest, proposed in membership.proposed.items():
        missing = membership.quorum - len(proposed.approved)
        print(f"\nchange {digest[:16]}, proposed by {proposed.change.author}")
        for action in proposed.change.actions:
            print(f"  {describe(action)}")
        print(f"  approved by {', '.join(sorted(proposed.approved)) or 'nobody'}; {missing} more")


@app.command()
def enrol(
    request: Annotated[Path, typer.Argument(help="The file that `hospital-agent enrol` wrote.")],
    home: HomeOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Propose a new institution to the members.

    Example: consortium institution enrol hospital-5.json
    """
    from consortium.enrolment import read_request

    _propose(home, lambda ledger: read_request(request, ledger), format)


@app.command()
def suspend(
    institution: IdArgument, home: HomeOption = None, format: FormatOption = Format.TABLE
) -> None:
    """Propose that an institution neither signs nor counts until it is reinstated.

    Example: consortium institution suspend hospital-3
    """
    from ledger.records import Suspend

    _propose(home, lambda _: Suspend(kind="suspend", institution=institution), format)


@app.command()
def reinstate(
    institution: IdArgument, home: HomeOption = None, format: FormatOption = Format.TABLE
) -> None:
    """Propose the end of a suspension.

    Example: consortium institution reinstate hospital-3
    """
    from ledger.records import Reinstate

    _propose(home, lambda _: Reinstate(kind="reinstate", institution=institution), format)


@app.command()
def remove(
    institution: IdArgument, home: HomeOption = None, format: FormatOption = Format.TABLE
) -> None:
    """Propose that an institution leaves for good. Its id and keys are never used again.

    Example: consortium institution remove hospital-3
    """
    from ledger.records import Remove

    _propose(home, lambda _: Remove(kind="remove", institution=institution), format)


@policy_app.command("show")
def policy_show(home: HomeOption = None, format: FormatOption = Format.TABLE) -> None:
    """Show how credits are split, and the quorum's rule.

    Example: consortium policy show
    """
    from consortium.local import open_ledger

    with open_ledger(home_path(home), shared=True) as (_, store):
        policy = store.chain().policy
    print_result({"quorum": policy.quorum, **policy.credits.model_dump()}, format)


@policy_app.command("set")
def policy_set(
    pool: Annotated[int | None, typer.Option(help="Credits of a round.", min=1)] = None,
    verdicts: Annotated[int | None, typer.Option(help="Of these for verdicts.", min=0)] = None,
    learner_bonus: Annotated[int | None, typer.Option(help="Of these a bonus.", min=0)] = None,
    window: Annotated[int | None, typer.Option(help="Rounds that count.", min=1)] = None,
    home: HomeOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Propose another split of a round's credits to the members.

    Example: consortium policy set --pool 2000
    """
    from consortium.errors import OptionInvalid
    from consortium.local import open_ledger
    from ledger.records import CreditPolicy, SetPolicy

    asked = {"pool": pool, "verdicts": verdicts, "learner_bonus": learner_bonus, "window": window}
    with open_ledger(home_path(home), shared=True) as (_, store):
        policy = store.chain().policy
    changed = policy.credits.model_dump() | {k: v for k, v in asked.items() if v is not None}
    try:
        credits = CreditPolicy.model_validate(changed)
    except ValueError:
        raise OptionInvalid(
            "the parts are more than the pool", "give a pool of at least verdicts and bonus"
        ) from None
    action = SetPolicy(kind="set-policy", policy=policy.model_copy(update={"credits": credits}))
    _propose(home, lambda _: action, format)


def _propose(home: Path | None, action_for: Any, format: Format) -> None:
    from consortium.local import open_ledger
    from ledger.entry import sign_record
    from ledger.keys import Role
    from ledger.membership import change_digest
    from ledger.records import COORDINATOR, Change

    with open_ledger(home_path(home), shared=True) as (local, store):
        membership = store.chain().upcoming
        action: Action = action_for(membership.ledger)
        change = Change(
            v=1, type="change", ledger=membership.ledger, author=COORDINATOR,
            base=membership.digest, actions=(action,),
        )  # fmt: skip
        store.submit(sign_record(change, [local.keys[Role.RECORD]]))
    digest = change_digest(change)
    content = {
        "change": digest,
        "approvals_needed": membership.quorum,
        "next": f"at {membership.quorum} members: hospital-agent members approve {digest[:16]}",
    }
    print_result(content, format)
