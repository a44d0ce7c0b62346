"""Since when who is a member, and with which keys: from the genesis and the changes that followed.

Pure. A change takes effect with the block after the one that holds the last approval it needed.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ledger.keys import Role
from ledger.listing import Listed
from ledger.membership import Membership
from ledger.records import MemberForm


@dataclass(frozen=True)
class Decided:
    """The block in which something was decided: its height and its time (seconds since 1970)."""

    height: int
    time: int


@dataclass(frozen=True)
class MemberHistory:
    """One institution: when it joined, and since when each of its keys is its key."""

    form: MemberForm
    joined: Decided
    keys: dict[Role, Decided]


def member_histories(
    founded: Membership, created: int, changes: Iterable[Listed]
) -> dict[str, MemberHistory]:
    """Members and suspended institutions after ``changes``, by id.

    ``founded`` is what the genesis gives, ``created`` its block's time; ``changes`` are all changes
    and approvals, in ledger order.
    """
    genesis = Decided(0, created)
    histories = {
        name: MemberHistory(form, genesis, dict.fromkeys(form.keys, genesis))
        for name, form in _forms(founded).items()
    }
    now = founded
    for listed in changes:
        after = now.after([listed.entry.record])
        if after.digest != now.digest:
            place = Decided(listed.height, listed.time)
            histories = {
                name: _followed(histories.get(name), form, place)
                for name, form in _forms(after).items()
            }
        now = after
    return histories


def _forms(membership: Membership) -> dict[str, MemberForm]:
    return {**membership.members, **membership.suspended}


def _followed(before: MemberHistory | None, form: MemberForm, place: Decided) -> MemberHistory:
    if before is None:
        return MemberHistory(form, place, dict.fromkeys(form.keys, place))
    keys = {
        role: before.keys[role] if before.form.keys.get(role) == key else place
        for role, key in form.keys.items()
    }
    return MemberHistory(form, before.joined, keys)
