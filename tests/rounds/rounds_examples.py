"""Rounds made of values: no training, no folders, no ledger. Every key comes from its name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from hashlib import sha256
from typing import Any

import numpy as np

from consortium import weights as weight_forms
from consortium.contract import JobOrder, make_job, task_groups
from consortium.rounds.checks import Reveal, RoundContext, privacy_terms, round_alpha
from consortium.rounds.commitment import closed_set_digest, commitment_hash, revealed_set_digest
from consortium.rounds.committee import committee
from consortium.rounds.result import RoundRecords
from ledger.content import Weights, digest, model_hash
from ledger.entry import Entry, sign_record
from ledger.keys import KeyRing, Role, SecretKey
from ledger.records import (
    Close,
    Commitment,
    CreditPolicy,
    Finding,
    Job,
    KeyForm,
    MemberForm,
    Proof,
    Spend,
    Verdict,
    possession_message,
)
from privacy.accounting import decimal_up
from privacy.budget_status import epsilon_up
from privacy.contract import decimal_text
from privacy.gaussian import mu_squared_of_round
from sml.mapping import SecureMapping
from sml.vrf import proof_to_hash, prove

LEDGER, BASE = "1f" * 32, "2e" * 32
CREDITS = CreditPolicy(pool=1000, verdicts=200, learner_bonus=100, window=5)
DECLARED = 100


def names(n: int) -> list[str]:
    return [f"hospital-{i}" for i in range(1, n + 1)]


def keys_of(name: str) -> KeyRing:
    return KeyRing(
        {role: SecretKey(role, sha256(f"{name}/{role}".encode()).digest()) for role in Role}
    )


def member_form(name: str) -> MemberForm:
    keys = keys_of(name)
    forms = {role: KeyForm.of(keys[role].public) for role in Role}
    possession = {}
    for role in Role:
        message = possession_message(name, role, forms)
        shown = prove(keys[role].seed, message) if role is Role.VRF else keys[role].sign(message)
        possession[role] = shown.hex()
    return MemberForm(id=name, title=name.title(), keys=forms, possession=possession)


def make_example_job(n: int = 4, rounds: int = 10, epsilon: str = "1") -> Job:
    order = JobOrder("breast-cancer", rounds, Decimal(epsilon), Decimal("0.00001"), 0)
    return make_job(LEDGER, "job-1", order, dict.fromkeys(names(n), DECLARED))


def make_context(n: int = 4, job: Job | None = None, size: float = 0.5) -> RoundContext:
    """A round in the middle of a job: the model is not zero (norm about 5.5 * size)."""
    job = job or make_example_job(n)
    random = np.random.default_rng(0)
    model = {
        "weight": random.normal(0, size, (1, 30)).astype(np.float32),
        "bias": random.normal(0, size, (1,)).astype(np.float32),
    }
    return RoundContext(
        ledger=LEDGER,
        base=BASE,
        job=job,
        round=1,
        attempt=1,
        members={name: member_form(name) for name in names(n)},
        model=model,
        groups=task_groups(job),
    )


def moved(context: RoundContext, step: np.ndarray) -> dict[str, np.ndarray]:
    """The model after a step: a vector in the order of the tensors' names."""
    weights, start = {}, 0
    for name in sorted(context.model):
        array = context.model[name]
        part = step[start : start + array.size].reshape(array.shape)
        weights[name] = (array + part).astype(np.float32)
        start += array.size
    return weights


def honest_step(name: str, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng([seed, *name.encode()])
    return random.normal(0, 0.05, 31)


def spend_of(context: RoundContext, name: str, before: int = 0) -> dict[str, Any]:
    """What an honest hospital declares after ``before`` rounds like this one."""
    participant = context.participant(name)
    assert participant is not None
    terms = privacy_terms(participant)
    cost = mu_squared_of_round(terms)
    known = terms.to_record() | {
        "cohort": "c" * 32,
        "mu2_before": decimal_up(before * cost),
        "mu2_after": decimal_up((before + 1) * cost),
        "epsilon": decimal_text(epsilon_up((before + 1) * cost, terms.delta)),
        "delta": decimal_text(terms.delta),
    }
    return {name: known[name] for name in Spend.model_fields}


@dataclass(frozen=True)
class Submission:
    """What one hospital commits to and reveals; change a field to cheat."""

    context: RoundContext
    author: str
    update: bytes
    vrf_proof: bytes
    spend: dict[str, Any]
    salt: bytes = b"\x07" * 32
    signer: str = ""
    committed: dict[str, Any] = field(default_factory=dict)
    proved: dict[str, Any] = field(default_factory=dict)

    def commitment(self) -> Entry:
        context = self.context
        opened = {
            "update": digest(self.update), "vrf_proof": self.vrf_proof, "salt": self.salt,
            "model": model_hash(context.model), "institution": self.author,
            "job": context.job.job, "round": context.round, "attempt": context.attempt,
        }  # fmt: skip
        record = Commitment(
            v=1, type="commitment", ledger=LEDGER, author=self.author, job=context.job.job,
            round=context.round, attempt=context.attempt, base=context.base,
            model=model_hash(context.model),
            commitment=commitment_hash(**{**opened, **self.committed}),
        )  # fmt: skip
        return sign_record(record, [keys_of(self.author)[Role.RECORD]])

    def reveal(self, set_digest: str) -> Reveal:
        context = self.context
        body = {
            "v": 1, "type": "proof", "ledger": LEDGER, "author": self.author,
            "job": context.job.job, "round": context.round, "attempt": context.attempt,
            "digest": set_digest, "update": digest(self.update),
            "vrf_proof": self.vrf_proof.hex(), "salt": self.salt.hex(), "spend": self.spend,
        }  # fmt: skip
        proof = Proof.model_validate({**body, **self.proved})
        signer = keys_of(self.signer or self.author)
        return Reveal(sign_record(proof, [signer[Role.RECORD]]), self.update)


def submit(context: RoundContext, name: str, weights: Weights, vrf: str = "") -> Submission:
    """An honest hospital's submission of an un-mapped update."""
    vrf_proof = prove(keys_of(vrf or name)[Role.VRF].seed, round_alpha(context, name))
    mapping = SecureMapping.derive(proof_to_hash(vrf_proof), context.groups)
    mapped = weight_forms.from_torch(mapping.map_state(weight_forms.to_torch(weights)))
    update = weight_forms.to_bytes(mapped)
    return Submission(context, name, update, vrf_proof, spend_of(context, name))


def submissions(context: RoundContext, seed: int = 0) -> dict[str, Submission]:
    return {
        p.institution: submit(
            context, p.institution, moved(context, honest_step(p.institution, seed))
        )
        for p in context.job.participants
    }


@dataclass(frozen=True)
class Revealed:
    commitments: tuple[Entry, ...]
    reveals: dict[str, Reveal]
    digest: str


def reveal_all(all_submissions: Mapping[str, Submission]) -> Revealed:
    commitments = tuple(s.commitment() for _, s in sorted(all_submissions.items()))
    set_digest = closed_set_digest(commitments)
    reveals = {name: s.reveal(set_digest) for name, s in all_submissions.items()}
    return Revealed(commitments, reveals, set_digest)


def finding(institution: str, **changed: Any) -> Finding:
    body = {
        "institution": institution, "code": "Accepted", "score": 9000, "harmful": False,
        "shapley": 100,
    }  # fmt: skip
    return Finding.model_validate({**body, **changed})


def honest_findings(author: str, revealed: Iterable[str]) -> list[Finding]:
    """One's own proof is neither scored nor called harmful."""
    own = {"score": None, "harmful": None, "shapley": None}
    return [finding(name, **(own if name == author else {})) for name in sorted(revealed)]


def in_round(context: RoundContext, author: str, **fields: Any) -> dict[str, Any]:
    return {
        "v": 1, "ledger": LEDGER, "author": author, "job": context.job.job,
        "round": context.round, "attempt": context.attempt, **fields,
    }  # fmt: skip


def signed(record: Any) -> Entry:
    return sign_record(record, [keys_of(record.author)[Role.RECORD]])


def verdict(
    context: RoundContext,
    author: str,
    set_digest: str,
    findings: Iterable[Finding],
    proofs: Sequence[Entry] = (),
) -> Entry:
    body = in_round(
        context, author, type="verdict", digest=set_digest, reveals=revealed_set_digest(proofs),
        findings=tuple(findings),
    )  # fmt: skip
    return signed(Verdict.model_validate(body))


def close(context: RoundContext, author: str, set_digest: str) -> Entry:
    return signed(Close.model_validate(in_round(context, author, type="close", digest=set_digest)))


def all_records(context: RoundContext, revealed: Revealed) -> RoundRecords:
    """What honest hospitals sign."""
    everybody = [p.institution for p in context.job.participants]
    proofs = tuple(revealed.reveals[name].proof for name in sorted(revealed.reveals))
    shown = sorted(revealed.reveals)
    return RoundRecords(
        commitments=revealed.commitments,
        closes=tuple(close(context, name, revealed.digest) for name in everybody),
        proofs=proofs,
        verdicts=tuple(
            verdict(context, name, revealed.digest, honest_findings(name, shown), proofs)
            for name in sorted(committee(context, [p.record for p in proofs]))
        ),
    )


def with_verdict(records: RoundRecords, entry: Entry) -> RoundRecords:
    """One member's verdict replaced."""
    author = entry.record.author
    others = tuple(v for v in records.verdicts if v.record.author != author)
    return replace(
        records,
        verdicts=tuple(sorted((*others, entry), key=lambda v: v.record.author)),
    )
