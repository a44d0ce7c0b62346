"""`consortium institution`: who is invited, who is a member, and proposals to change that.

Nothing here makes a member by itself: the members' people approve (`hospital-agent members
approve`), or, before there is a ledger, the founders sign the genesis.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consortium.cli.duration import seconds, when
from consortium.cli.home import HomeOption, existing_home, home_path
from consortium.cli.output import Format, print_json, print_result

if TYPE_CHECKING:
    from consortium.invitations import Enrolment
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
def invite(
    institution: IdArgument,
    title: Annotated[str, typer.Option(help="The institution's public name.")],
    expires: Annotated[str, typer.Option(help="How long it can be used: 7d, 12h, 30m.")] = "7d",
    url: Annotated[
        str | None,
        typer.Option(help="What the hospital reaches (default: the certificate's first name)."),
    ] = None,
    home: HomeOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Print a token that enrols one institution, once, and the line that its IT runs.

    The token is shown this once. Send it on a way that others do not read.

    Example: consortium institution invite hospital-5 --title "Hospital 5" --url
    https://medpole.example.org:8443
    """
    from consortium.invitations import NO_CA, Invitations
    from consortium.tls import address

    lifetime = seconds(expires)
    path = existing_home(home)
    reached, ca = address(path, url)
    fingerprint, founder = _site(path, institution)
    token = Invitations(path).invite(
        institution, title, fingerprint, founder=founder, ca=ca or NO_CA, lifetime_s=lifetime
    )
    content = {
        "institution": institution,
        "as": "founder" if founder else "member",
        "fingerprint": fingerprint,
        "expires_in": expires,
        "token": token.text(),
        "run": f"hospital-agent enrol {reached} {token.text()}",
        "then": f"consortium institution approve {institution}",
    }
    print_result(content, format)


@app.command()
def invitations(
    revoke: Annotated[
        str | None, typer.Option(help="Take an institution's invitation back (its id).")
    ] = None,
    home: HomeOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """List the invitations, or take one back, with what was enrolled by it.

    Example: consortium institution invitations --revoke hospital-5
    """
    from consortium.founding import drop_form
    from consortium.invitations import Invitations

    path = existing_home(home)
    found = Invitations(path)
    if revoke is not None:
        found.revoke(revoke)
        drop_form(path, revoke)
    now = time.time()
    rows = [
        {
            "institution": one.institution,
            "title": one.title,
            "as": "founder" if one.founder else "member",
            "state": one.state(now),
            "expires": when(one.expires),
        }
        for one in found.all()
    ]
    _print_rows(rows, format, "no invitations: consortium institution invite")


@app.command()
def pending(home: HomeOption = None, format: FormatOption = Format.TABLE) -> None:
    """List those who have enrolled with an invitation, with their keys' fingerprints.

    Example: consortium institution pending --home /srv/medpole
    """
    from consortium.invitations import Invitations

    rows = [
        {
            "institution": invitation.institution,
            "title": invitation.title,
            "enrolled": when(invitation.used or 0),
            "state": invitation.state(0),
            "keys": " ".join(f"{k} {v}" for k, v in _fingerprints(enrolment).items()),
        }
        for invitation, enrolment in Invitations(existing_home(home)).enrolments()
    ]
    _print_rows(rows, format, "nobody has enrolled: see consortium institution invitations")


@app.command()
def approve(
    institution: IdArgument,
    yes: Annotated[
        bool, typer.Option("--yes", help="The fingerprints were compared already.")
    ] = False,
    home: HomeOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Compare an enrolment's fingerprints by telephone, and put it to the founders or members.

    Before the genesis the institution becomes a founder of it; on a ledger the members decide.
    Repeat it if the change lapsed because another one took effect first.

    Example: consortium institution approve hospital-5
    """
    from consortium.errors import EnrolmentInvalid, OptionInvalid
    from consortium.founding import is_draft, keep_form
    from consortium.invitations import Invitations
    from consortium.transport import TransportKeys
    from ledger.records import Enrol

    path = existing_home(home)
    found = Invitations(path)
    invitation, enrolment = found.enrolment(institution)
    fingerprints = _fingerprints(enrolment)
    for name, value in {"title": repr(invitation.title), **fingerprints}.items():
        print(f"{name:<10}{value}", file=sys.stderr)
    if not yes:
        if not sys.stdin.isatty():
            raise OptionInvalid(
                "nobody is at a terminal to confirm the fingerprints",
                "compare them by telephone, then give --yes",
            )
        if not typer.confirm("Does the hospital read the same to you? Approve?", err=True):
            raise EnrolmentInvalid("not confirmed, not approved", "compare, then start again")
    content: dict[str, Any] = {"institution": institution, **fingerprints}
    if invitation.founder and is_draft(path):
        content["written"] = str(keep_form(path, enrolment.form))
        content["next"] = "once all founders are approved: consortium genesis --approved"
    elif enrolment.consent is None:
        raise EnrolmentInvalid(
            f"{institution} enrolled as a founder, and the ledger has begun without it",
            f"consortium institution invitations --revoke {institution}; then invite it anew",
        )
    else:
        action = Enrol(kind="enrol", member=enrolment.form, consent=enrolment.consent)
        content |= _proposed(path, lambda _: action)
    # The key opens nothing before its institution is a member.
    TransportKeys(path).put(invitation.ledger, institution, enrolment.transport, enrolment.proof)
    found.approve(invitation)
    print_result(content, format)


def _site(home: Path, institution: str) -> tuple[str, bool]:
    """The fingerprint that an invitation carries, and whether it is a draft's."""
    from consortium.errors import InvitationInvalid
    from consortium.founding import draft_keys, is_draft
    from consortium.invitations import draft_fingerprint
    from consortium.local import open_ledger
    from ledger.keys import Role

    if is_draft(home):
        return draft_fingerprint(draft_keys(home)[Role.RECORD].public.public), True
    with open_ledger(home, shared=True) as (_, store):
        membership = store.chain().upcoming
    if institution in membership.used_ids:
        raise InvitationInvalid(
            f"the id {institution} stands on the ledger already",
            "ids are never used again: take another; new keys: `hospital-agent keys rotate`",
        )
    return membership.ledger, False


def _fingerprints(enrolment: "Enrolment") -> dict[str, str]:
    from consortium.transport import transport_id
    from ledger.keys import Role

    keys = {str(role): enrolment.form.key(role).key_id for role in Role}
    return keys | {"transport": transport_id(enrolment.transport)}


def _print_rows(rows: list[dict[str, str]], format: Format, empty: str) -> None:
    if format is Format.JSON:
        print_json(rows)
        return
    for row in rows:
        print("  ".join(row.values()))
    if not rows:
        print(empty)


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
    print_result(_proposed(home_path(home), action_for), format)


def _proposed(home: Path, action_for: "Callable[[str], Action]") -> dict[str, Any]:
    """Hands a change in for the next block; one that is open already stays as it is."""
    from consortium.local import open_ledger
    from ledger.entry import sign_record
    from ledger.keys import Role
    from ledger.membership import change_digest
    from ledger.records import COORDINATOR, Change

    with open_ledger(home, shared=True) as (local, store):
        membership = store.chain().upcoming
        action = action_for(membership.ledger)
        change = Change(
            v=1, type="change", ledger=membership.ledger, author=COORDINATOR,
            base=membership.digest, actions=(action,),
        )  # fmt: skip
        digest = change_digest(change)
        if digest not in membership.proposed:
            store.submit(sign_record(change, [local.keys[Role.RECORD]]))
    return {
        "change": digest,
        "approvals_needed": membership.quorum,
        "next": f"at {membership.quorum} members: hospital-agent members approve {digest[:16]}",
    }
