"""What a check is given, and what it answers: values, nothing to fetch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from consortium.rounds.checks.near_copy import EarlierStep
from ledger.content import Weights, model_hash
from ledger.entry import Entry
from ledger.records import Job, MemberForm, Participant, Spend
from sml.groups import MappingGroup


@dataclass(frozen=True)
class RoundContext:
    """What every member knows before a round's reveals: values, nothing to fetch.

    ``base`` is the hash of the final block that the round starts from; ``model`` the current
    global model W_t (float32 arrays by name); ``groups`` the axes that the secure mapping
    permutes; ``earlier`` the steps of the earlier reveals of this job; ``spent`` what each
    institution declared in its last proof for this task; ``doubted`` whose last proof in this job
    was called harmful, ``left_out`` whom ``model`` leaves out: who was doubted when it was made.
    """

    ledger: str
    base: str
    job: Job
    round: int
    attempt: int
    members: Mapping[str, MemberForm]
    model: Weights
    groups: tuple[MappingGroup, ...]
    earlier: Sequence[EarlierStep] = field(default=(), repr=False)
    spent: Mapping[str, Spend] = field(default_factory=dict)
    doubted: frozenset[str] = frozenset()
    left_out: frozenset[str] = frozenset()

    @cached_property
    def model_hash(self) -> str:
        """The current global model's hash."""
        return model_hash(self.model)

    def participant(self, institution: str) -> Participant | None:
        """The institution's part in the job, if it has one."""
        return next((p for p in self.job.participants if p.institution == institution), None)


@dataclass(frozen=True)
class Reveal:
    """What a hospital shows: its signed proof, and its mapped update (safetensors bytes)."""

    proof: Entry
    update: bytes = field(repr=False)


@dataclass(frozen=True)
class Examined:
    """The outcome of checks 1 to 7 on one reveal.

    ``weights`` is the un-mapped update, None where checks 1 to 4 left none; only ``code`` says
    whether it passed.
    """

    code: str
    weights: Weights | None = field(default=None, repr=False)


class Failed(Exception):
    """A check failed; the argument is its code."""
