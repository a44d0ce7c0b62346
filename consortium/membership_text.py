"""A change of the membership in words, for the people who decide on it."""

from ledger.keys import Role
from ledger.records import (
    Action,
    Enrol,
    Reinstate,
    Remove,
    Rotate,
    RotateCoordinator,
    Suspend,
)


def describe(action: Action) -> str:
    """One action, with the fingerprints to compare by telephone."""
    if isinstance(action, Enrol):
        member = action.member
        return f"enrol {member.id}, {member.title!r}, record key {member.key(Role.RECORD).key_id}"
    if isinstance(action, Rotate):
        key = action.member.key(Role.RECORD).key_id
        return f"give {action.member.id} new keys, record key {key}"
    if isinstance(action, RotateCoordinator):
        return "give the coordinator new keys"
    if isinstance(action, Suspend):
        return f"suspend {action.institution}"
    if isinstance(action, Reinstate):
        return f"reinstate {action.institution}"
    if isinstance(action, Remove):
        return f"remove {action.institution} for good"
    credits = action.policy.credits
    return (
        f"credits of a round: {credits.pool}, of these {credits.verdicts} for verdicts, "
        f"{credits.learner_bonus} for the learner, over {credits.window} rounds"
    )
