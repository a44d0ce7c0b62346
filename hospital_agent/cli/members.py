"""`hospital-agent members` and `keys`: what a person decides about who is a member."""

from typing import Annotated

import typer

from consortium.cli.output import Format, print_json, print_result
from hospital_agent.cli.options import (
    ApiOption,
    FormatOption,
    HomeOption,
    KeyOption,
    approver_of,
    hospital,
)

app = typer.Typer(help="Who is a member, as this hospital verified it.", no_args_is_help=True)
keys_app = typer.Typer(help="This hospital's keys.", no_args_is_help=True)


@app.command("list")
def list_(home: HomeOption, format: FormatOption = Format.TABLE) -> None:
    """Show members, and changes that wait for approvals, from this hospital's verified copy.

    Example: hospital-agent members list --home .medpole/hospitals/hospital-1
    """
    from consortium.api.wire import membership_to_wire
    from consortium.cli.institution import print_membership
    from hospital_agent.view import ReplicaView

    membership = ReplicaView(hospital(home)).refresh().upcoming
    if format is Format.JSON:
        print_json(membership_to_wire(membership))
        return
    print_membership(membership)


@app.command()
def approve(
    change: Annotated[str, typer.Argument(help="The change's id, or how it begins.")],
    home: HomeOption,
    api: ApiOption,
    name: Annotated[
        str, typer.Option("--as", help="Who approves. On the ledger only as a salted digest.")
    ],
    key: KeyOption = None,
    disclose: Annotated[
        bool, typer.Option(help="Let exports show the name; it can be erased later.")
    ] = False,
    format: FormatOption = Format.TABLE,
) -> None:
    """Approve a change with a person's own key. Compare fingerprints by telephone before.

    Example: hospital-agent members approve 3f9c21aa --as "Dr. Ada Example"
    """
    from consortium.membership_text import describe
    from hospital_agent.approvals import Approvals
    from hospital_agent.approver import open_approver
    from hospital_agent.connection import connect
    from hospital_agent.errors import ApproverInvalid, ChangeUnknown
    from hospital_agent.ledger_api import LedgerApi
    from hospital_agent.view import ReplicaView
    from ledger.keys import Role

    folder = hospital(home)
    chain = ReplicaView(folder).refresh()
    found = [digest for digest in chain.upcoming.proposed if digest.startswith(change)]
    approvals = Approvals(folder.path / "approvals.sqlite")
    if not found and len(change) >= 8 and (before := approvals.approved(change)):
        print_result({"approved": before[0], "what": "it is decided, or has lapsed"}, format)
        return
    if len(found) != 1 or len(change) < 8:
        raise ChangeUnknown(
            f"{change} names {'no' if not found else 'more than one'} change that is open",
            "see `hospital-agent members list`; give at least 8 digits of its id",
        )
    approver = open_approver(*approver_of(folder, key))
    own = chain.upcoming.members.get(folder.institution)
    if own is None or own.key(Role.APPROVAL) != approver.public:
        raise ApproverInvalid(
            "the approval key is not the one that stands on the ledger for this hospital",
            "give the file of the person who approves, with --key",
        )
    entry, disclosure = approvals.approve(
        chain.ledger, folder.institution, found[0], name, approver
    )
    opened = {"salt": disclosure.salt.hex(), "value": disclosure.value} if disclose else None
    with connect(folder, api) as client:
        LedgerApi(client, folder).submit(entry.data, opened)
    actions = chain.upcoming.proposed[found[0]].change.actions
    content = {"approved": found[0], "what": "; ".join(map(describe, actions))}
    print_result(content, format)


@keys_app.command()
def rotate(
    home: HomeOption, api: ApiOption, key: KeyOption = None, format: FormatOption = Format.TABLE
) -> None:
    """Make new keys, and propose them to the members. The old ones stay until it is decided.

    Example: hospital-agent keys rotate --home .medpole/hospitals/hospital-1
    """
    from hospital_agent.approvals import Approvals
    from hospital_agent.connection import connect
    from hospital_agent.enrolment import rotation
    from hospital_agent.ledger_api import LedgerApi
    from hospital_agent.view import ReplicaView
    from ledger.membership import change_digest
    from ledger.records import Change

    folder = hospital(home)
    membership = ReplicaView(folder).refresh().upcoming
    entry = rotation(folder, membership.digest, *approver_of(folder, key))
    Approvals(folder.path / "approvals.sqlite").keep(entry)
    with connect(folder, api) as client:
        LedgerApi(client, folder).submit(entry.data)
    change = entry.record
    assert isinstance(change, Change)
    content = {"change": change_digest(change), "approvals_needed": membership.quorum}
    print_result(content, format)
