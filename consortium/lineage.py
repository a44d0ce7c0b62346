"""Where a model comes from: every record of a ledger that names one, and what led to it.

A model is named by the contract of a job (the untrained one it begins with), by each round's result
and by the job's end (the one it releases, the mean of its last rounds' models). One hash may be
named more than once: two jobs begin alike, a round may leave the model as it was. Values only;
`consortium.registry` reads them from a database or an export.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from consortium.errors import ModelMissing
from consortium.rounds.progress import doubted_after
from consortium.standing import Placed
from ledger.records import ACCEPTED, Job, JobEnd, Proof, Record, Result

Kind = Literal["initial", "round", "released"]
TYPES = ("job", "result", "job-end")
"""The records that name models."""

SHORTEST = 8  # digits of a hash that people may type instead of all


@dataclass(frozen=True)
class NamedModel:
    """A model where one record names it; ``round``: of a released one, how many there were."""

    model: str
    kind: Kind
    job: str
    round: int | None
    index: int
    height: int
    time: int

    @property
    def title(self) -> str:
        """For people: which of the job's models it is."""
        if self.kind != "released":
            return f"round {self.round}" if self.kind == "round" else self.kind
        rounds = "no round, so untrained" if not self.round else f"round {self.round}"
        return f"released after {rounds}"


@dataclass(frozen=True)
class ProofOf:
    """One proof of learning: the update that it revealed, by digest, and what became of it."""

    institution: str
    update: str
    code: str
    index: int

    @property
    def accepted(self) -> bool:
        """Whether the round's rule took its update."""
        return self.code == ACCEPTED


@dataclass(frozen=True)
class Step:
    """One round: from which model to which, by whose proofs; ``index`` is its result's.

    ``codes``: what the result calls each institution's proof.
    """

    round: int
    index: int
    height: int
    before: str
    after: str
    void: bool
    codes: Mapping[str, str]
    proofs: tuple[ProofOf, ...]


@dataclass(frozen=True)
class Lineage:
    """One model's way, from the contract to the record that names it.

    ``averaged``: the rounds whose models a released one is the mean of, each without whoever was
    taken out.
    """

    ledger: str
    named: NamedModel
    contract: Placed[Job]
    steps: tuple[Step, ...]
    averaged: tuple[int, ...]

    @property
    def participants(self) -> tuple[str, ...]:
        """Who takes part in the job."""
        return tuple(one.institution for one in self.contract.record.participants)

    @property
    def proofs(self) -> list[ProofOf]:
        """All proofs on the way, oldest first."""
        return [proof for step in self.steps for proof in step.proofs]

    @property
    def learned_from(self) -> tuple[str, ...]:
        """Whose updates are in it: accepted ones, of rounds that were not void."""
        return tuple(sorted(self._accepted - self._left_out))

    @property
    def taken_out(self) -> tuple[str, ...]:
        """Whose accepted updates are no longer in it: found harmful later."""
        return tuple(sorted(self._accepted & self._left_out))

    @property
    def _accepted(self) -> frozenset[str]:
        codes = [step.codes for step in self.steps if not step.void]
        return frozenset(
            name for found in codes for name, code in found.items() if code == ACCEPTED
        )

    @property
    def _left_out(self) -> frozenset[str]:
        made = [place for place, step in enumerate(self.steps, start=1) if not step.void]
        last = len(self.steps) if self.named.kind == "released" else max(made, default=0)
        found: frozenset[str] = frozenset()
        for step in self.steps[:last]:
            found = doubted_after(found, step.codes)
        return found

    def body(self) -> dict[str, Any]:
        """The lineage as plain JSON values."""
        named, contract = self.named, self.contract
        return {
            "ledger": self.ledger,
            "model": named.model,
            "kind": named.kind,
            "job": named.job,
            "task": contract.record.task,
            "task_fingerprint": contract.record.task_fingerprint,
            "named_by": _place(named),
            "contract": _place(contract),
            "initial_model": contract.record.initial_model,
            "participants": list(self.participants),
            "learned_from": list(self.learned_from),
            "taken_out": list(self.taken_out),
            "averaged_rounds": list(self.averaged),
            "rounds": [
                {
                    "round": step.round, "record": step.index, "block": step.height,
                    "before": step.before, "after": step.after, "void": step.void,
                    "proofs": [vars(proof) for proof in step.proofs],
                }
                for step in self.steps
            ],
        }  # fmt: skip


def named_models(records: Iterable[Placed[Record]]) -> list[NamedModel]:
    """Every model that records name, in their order; attempts that were repeated made none."""
    found = []
    for placed in records:
        record, place = placed.record, (placed.index, placed.height, placed.time)
        if isinstance(record, Job):
            found.append(NamedModel(record.initial_model, "initial", record.job, None, *place))
        elif isinstance(record, Result) and not record.again:
            of = record.job, record.round
            found.append(NamedModel(record.model_after, "round", *of, *place))
        elif isinstance(record, JobEnd):
            of = record.job, record.rounds
            found.append(NamedModel(record.model, "released", *of, *place))
    return found


def namings(models: Sequence[NamedModel], name: str) -> list[NamedModel]:
    """Where a model is named: its release first, then rounds, then contracts, the oldest first.

    Args:
        models: all there are.
        name: a model's hash, or at least 8 digits of its beginning; or a job, for what it released.

    Raises:
        ModelMissing: if no model is meant, or more than one.
    """
    if any(one.job == name for one in models):
        of_job = [one for one in models if one.job == name and one.kind == "released"]
        if not of_job:
            raise ModelMissing(
                f"the job {name} has released no model",
                "name one by its hash: `consortium model list` shows all",
            )
        return of_job
    prefix = name.strip().lower()
    matching = [one for one in models if len(prefix) >= SHORTEST and one.model.startswith(prefix)]
    count = len({one.model for one in matching})
    if count != 1:
        raise ModelMissing(
            f"{f'{count} models are' if count else 'no model is'} called {name[:70]!r}",
            "name a job, or a model by its hash or the first of its digits, as "
            "`consortium model list` shows them",
        )
    rank = {"released": 0, "round": 1, "initial": 2}
    return sorted(matching, key=lambda one: rank[one.kind])


def lineage_of(ledger: str, named: NamedModel, records: Iterable[Placed[Record]]) -> Lineage:
    """The lineage of a model, from its job's records in the ledger's order.

    Raises:
        ModelMissing: if the job's contract is not among them.
    """
    contract: Placed[Job] | None = None
    proofs: list[tuple[Proof, int]] = []
    steps: list[Step] = []
    for placed in records:
        record = placed.record
        if getattr(record, "job", None) != named.job or placed.index > named.index:
            continue
        if isinstance(record, Job):
            contract = Placed(record, placed.index, placed.height, placed.time)
        elif isinstance(record, Proof):
            proofs.append((record, placed.index))
        elif isinstance(record, Result):
            if not record.again:
                steps.append(_step(record, placed, proofs))
            proofs = []
    if contract is None:
        raise ModelMissing(
            f"the contract of {named.job} is not in this part of the ledger",
            "export the ledger from the genesis on, without --from-height",
        )
    first = contract.record.average_from
    averaged = [step.round for step in steps if step.round >= first and not step.void]
    return Lineage(
        ledger, named, contract, tuple(steps),
        tuple(averaged) if named.kind == "released" else (),
    )  # fmt: skip


def _step(result: Result, placed: Placed[Record], proofs: Sequence[tuple[Proof, int]]) -> Step:
    codes = {outcome.institution: outcome.code for outcome in result.proofs}
    return Step(
        result.round, placed.index, placed.height, result.model_before, result.model_after,
        result.void, codes,
        tuple(
            ProofOf(proof.author, proof.update, codes.get(proof.author, ""), index)
            for proof, index in proofs
        ),
    )  # fmt: skip


def _place(placed: Placed[Job] | NamedModel) -> dict[str, int]:
    return {"record": placed.index, "block": placed.height, "time": placed.time}
