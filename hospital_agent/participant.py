"""A hospital's part in a round: train, close, reveal, verify. Knows nothing of Flower.

What never leaves: patients, exact counts, the text of an error. What leaves, and when: a hash
(train); a signature under the closed set (close); the noised, mapped update with its proof, after
the budget has been charged (reveal); findings on all updates (verify).
"""

import logging
import os
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from consortium import tasks
from consortium import weights as weight_forms
from consortium.errors import ConsortiumError
from consortium.phases import Phase, Reply, Request
from consortium.rounds.checks import (
    Examined,
    Reveal,
    RoundContext,
    examine,
    privacy_terms,
    round_alpha,
)
from consortium.rounds.commitment import closed_set_digest, commitment_hash, revealed_set_digest
from consortium.rounds.committee import committee
from consortium.rounds.progress import next_place
from consortium.rounds.replay import check_record, is_update_of, round_context
from consortium.rounds.verdict import Validator, findings, release_noise, score_terms
from consortium.tasks.errors import TaskError
from hospital_agent.cohort import Cohort
from hospital_agent.decisions import Decisions
from hospital_agent.errors import (
    AgentError,
    BaseUnknown,
    JobUnknown,
    MemberStopped,
    NotOnCommittee,
    OwnCommitmentMissing,
    PhaseOutOfOrder,
    PolicyRefused,
    RevealDropped,
    SetSignedAlready,
)
from hospital_agent.folder import HospitalFolder
from hospital_agent.part_budget import reserve_of_part
from hospital_agent.policy import Policy, asked
from hospital_agent.rounds import Place, RoundMemory, Trained
from hospital_agent.view import ReplicaView
from ledger.chain import Chain, check_quorum
from ledger.content import Weights, digest
from ledger.entry import Entry, sign_record
from ledger.errors import LedgerError
from ledger.keys import Role
from ledger.quorum import quorum
from ledger.records import (
    Close,
    Commitment,
    Finding,
    Job,
    Proof,
    Record,
    Refusal,
    SampledSpend,
    Verdict,
)
from ledger.records import Spend as SpendForm
from privacy.accounting import shown_up
from privacy.budget_status import Spend
from privacy.contract import PrivacyTerms, decimal_text
from privacy.devices import CPU
from privacy.errors import PrivacyError
from privacy.noise import SecureNoise
from privacy.training import train
from sml.mapping import SecureMapping
from sml.vrf import evaluate

log = logging.getLogger("medpole.participant")


class Participant:
    """One hospital, answering the phases of rounds from its own folder.

    ``device``: where it trains. Its own matter, and in no contract.
    """

    def __init__(self, folder: HospitalFolder, device: str = CPU) -> None:
        self.folder, self.device = folder, device
        self.memory = RoundMemory(folder.path / "rounds.sqlite")
        self.view = ReplicaView(folder)

    def answer(self, request: Request) -> Reply:
        """Answers one phase. Errors leave as codes only; a refusal to train is signed."""
        name = self.folder.institution
        handlers = {
            Phase.TRAIN: self._train,
            Phase.CLOSE: self._close,
            Phase.REVEAL: self._reveal,
            Phase.VERIFY: self._verify,
        }
        try:
            return handlers[request.phase](request)
        except (AgentError, ConsortiumError, PrivacyError, LedgerError, TaskError) as error:
            code = error.code
        except Exception as error:
            code = _internal(error)
        return Reply(name, (), (), code)

    def knows(self, base: str) -> bool:
        """Whether a round that starts from this block can be answered: it is the newest here."""
        return self.view.refresh().header.hash == base

    def decline(self, request: Request, code: str) -> Reply:
        """Answers a request that is not to be run: training is refused with a signature.

        Only for the job's next place: nobody collects refusals of rounds that are yet to come.
        """
        if request.phase is not Phase.TRAIN:
            return Reply(self.folder.institution, (), (), code)
        try:
            _, _, context = self._context(request)
        except (AgentError, ConsortiumError, LedgerError) as error:
            return Reply(self.folder.institution, (), (), error.code)
        return self._refuse(request, context.ledger, code)

    def _refuse(self, request: Request, ledger: str, code: str) -> Reply:
        """A signed refusal, kept: one answer to a place, whatever is asked later."""
        record = Refusal(
            v=1, type="refusal", ledger=ledger, author=self.folder.institution,
            job=request.job, round=request.round, attempt=request.attempt, code=code,
        )  # fmt: skip
        entry = self._sign(record).data
        _, kept = self.memory.keep_signed(_place(request), "refusal", code, entry)
        return Reply(self.folder.institution, (kept,), (), code)

    def _sign(self, record: Record) -> Entry:
        return sign_record(record, [self.folder.keys[Role.RECORD]])

    def _context(self, request: Request) -> tuple[Chain, Job, RoundContext]:
        chain = self.view.refresh()
        stopped = self.view.replica.stopped(self.folder.keys[Role.COSIGN].public.key_id)
        if stopped is not None:
            raise MemberStopped(
                stopped, "rotate this hospital's keys: `hospital-agent keys rotate`"
            )
        if request.base != chain.header.hash:
            raise BaseUnknown(
                "the round does not start from the newest block known here",
                "wait until this hospital's witness has caught up, then send the phase again",
            )
        job = next((j for j in self.view.jobs() if j.job == request.job), None)
        if job is None or self.view.ended(job.job):
            raise JobUnknown("the job is not running", "submit the job and have it co-signed")
        place = (request.round, request.attempt)
        if place != next_place(self.view.results(job.job)) or request.round > job.rounds:
            raise PhaseOutOfOrder(
                "this attempt at a round is not the job's next", "ask for the next one"
            )
        return chain, job, round_context(self.view, job, request.round, request.attempt)

    # train

    def _train(self, request: Request) -> Reply:
        _, job, context = self._context(request)
        place = _place(request)
        refused = self.memory.signed(place, "refusal")
        if refused is not None:
            return Reply(self.folder.institution, (refused[1],), (), refused[0])
        trained = self.memory.trained(place)
        if trained is None:
            try:
                trained = self.memory.keep_trained(place, self._commit(job, context))
            except (AgentError, ConsortiumError, PrivacyError, LedgerError, TaskError) as error:
                return self._refuse(request, context.ledger, error.code)
            except Exception as error:
                return self._refuse(request, context.ledger, _internal(error))
        return Reply(self.folder.institution, (trained.commitment,))

    def _commit(self, job: Job, context: RoundContext) -> Trained:
        """Trains, anew in each attempt: of an earlier one nothing has left but a salted hash."""
        if self.memory.revealed_before((job.job, context.round, context.attempt)):
            raise RevealDropped(
                "this hospital has revealed its update in an earlier attempt at this round",
                "ask the coordinator where the closed set of that attempt went; the refusal stands "
                "on the ledger",
            )
        participant = context.participant(self.folder.institution)
        if participant is None:
            raise JobUnknown("this hospital has no part in the job", "name it in the job")
        terms = privacy_terms(participant)
        cohort = self.reserve(job, terms)
        beta, vrf_proof = self.draw(context)
        mapping = SecureMapping.derive(beta, context.groups)
        mapped = self.mapped_update(cohort, job, context, terms, mapping)
        update = self.folder.content.put(weight_forms.to_bytes(mapped))
        return self.committed(context, update, vrf_proof, os.urandom(32))

    def draw(self, context: RoundContext) -> tuple[bytes, bytes]:
        """What the round's mapping is drawn from, by this hospital's key, and the proof of it."""
        seed = self.folder.keys[Role.VRF].seed
        return evaluate(seed, round_alpha(context, self.folder.institution))

    def committed(
        self, context: RoundContext, update: str, vrf_proof: bytes, salt: bytes
    ) -> Trained:
        """A signed commitment to an update, with what opens it."""
        record = Commitment(
            v=1, type="commitment", ledger=context.ledger, author=self.folder.institution,
            job=context.job.job, round=context.round, attempt=context.attempt, base=context.base,
            model=context.model_hash,
            commitment=commitment_hash(
                update=update, vrf_proof=vrf_proof, salt=salt, model=context.model_hash,
                institution=self.folder.institution, job=context.job.job, round=context.round,
                attempt=context.attempt,
            ),
        )  # fmt: skip
        return Trained(update, vrf_proof, salt, self._sign(record).data)

    def reserve(self, job: Job, terms: PrivacyTerms) -> Cohort:
        """Sets the job's whole cost aside before anything is trained; repeats are free.

        Raises:
            AgentError, PrivacyError: if the policy, a person or the budget does not allow the job.
        """
        self._check_allowed(job, terms)
        cohort = Cohort.open(self.folder, job.task)
        if terms.normaliser != cohort.declared_patients:
            raise PolicyRefused(
                f"the job states {terms.normaliser} patients for this hospital, which declares "
                f"{cohort.declared_patients}",
                "submit a job with the number that the hospital declares",
            )
        policy = Policy.read(self.folder.path / "policy.json")
        policy.check_lifetime(self.folder.budget.status(cohort.id))
        self.folder.budget.reserve(cohort.id, job.job, terms)
        scores = score_terms(job, self.folder.institution)
        if scores is not None:
            reserve_of_part(self.folder, cohort, "validation", job.job, scores, policy)
        return cohort

    def _check_allowed(self, job: Job, terms: PrivacyTerms) -> None:
        policy = Policy.read(self.folder.path / "policy.json")
        policy.check(job, asked(terms, policy))
        policy.check_scores(job, score_terms(job, self.folder.institution))
        Decisions(self.folder.path / "decisions.sqlite").check(job, policy)

    def mapped_update(
        self, cohort: Cohort, job: Job, context: RoundContext, terms: PrivacyTerms,
        mapping: SecureMapping,
    ) -> Weights:  # fmt: skip
        """Trains the mapped model on mapped inputs, with noise."""
        task = tasks.get(job.task)
        model = task.model(job.seed)
        model.load_state_dict(weight_forms.to_torch(mapping.map_state(context.model)))
        x, y = cohort.tensors("train")
        x = mapping.map_inputs(x)
        train(model, task.loss, x, y, terms, SecureNoise(), device=self.device)
        return weight_forms.of_module(model)

    # close

    def _close(self, request: Request) -> Reply:
        chain, _, context = self._context(request)
        check_quorum(chain.membership, chain.checkpoint, request.cosignatures)
        commitments = self._members_entries(chain, request.entries, Commitment)
        for entry in commitments:
            check_record(context, entry.record, None)
        trained = self.memory.trained(_place(request))
        if trained is None or trained.commitment not in request.entries:
            raise OwnCommitmentMissing(
                "the set lacks this hospital's own commitment", "close the set with it, unchanged"
            )
        set_digest = closed_set_digest(commitments)
        record_ = Close(
            v=1, type="close", ledger=context.ledger, author=self.folder.institution,
            job=request.job, round=request.round, attempt=request.attempt, digest=set_digest,
        )  # fmt: skip
        entry_ = self._sign(record_).data
        stored, signed = self.memory.keep_signed(_place(request), "close", set_digest, entry_)
        if stored != set_digest:
            raise SetSignedAlready(
                "another set of commitments was signed for this attempt",
                "keep both sets as evidence: the coordinator showed two",
            )
        return Reply(self.folder.institution, (signed,))

    # reveal

    def _reveal(self, request: Request) -> Reply:
        chain, job, context = self._context(request)
        place = _place(request)
        trained, signed = self.memory.trained(place), self.memory.signed(place, "close")
        if trained is None or signed is None:
            raise PhaseOutOfOrder("nothing was committed and closed", "start with train")
        closes = self._members_entries(chain, request.entries, Close)
        for entry in closes:
            check_record(context, entry.record, signed[0])
        if len(closes) < quorum(len(chain.members)):
            raise PhaseOutOfOrder(
                "fewer members than the quorum have closed the same set",
                "reveal once a quorum has signed one set",
            )
        opening = self.opening(context, trained)
        data = self.folder.content.get(opening.update)
        shown = self.memory.signed(place, "proof")
        if shown is None:
            proof = self._sign(self._paid_for(job, context, opening, signed[0]))
            # Kept before it leaves: whoever has revealed must know it, whatever is said of it.
            shown = self.memory.keep_signed(place, "proof", signed[0], proof.data)
        return Reply(self.folder.institution, (shown[1],), (data,))

    def opening(self, context: RoundContext, trained: Trained) -> Trained:
        """What opens the commitment."""
        return trained

    def _paid_for(
        self, job: Job, context: RoundContext, opening: Trained, set_digest: str
    ) -> Proof:
        """The proof of an update whose cost the budget has been charged with."""
        participant = context.participant(self.folder.institution)
        assert participant is not None
        terms = privacy_terms(participant)
        self._check_allowed(job, terms)  # what was allowed when it trained may not be any more
        cohort = Cohort.open(self.folder, job.task)
        # Charged before the update leaves: a crash after this line costs, it never saves.
        place = job.job, context.round, context.attempt
        spend = self.folder.budget.charge(cohort.id, *place, opening.update)
        return Proof(
            v=1, type="proof", ledger=context.ledger, author=self.folder.institution,
            job=job.job, round=context.round, attempt=context.attempt, digest=set_digest,
            update=opening.update, vrf_proof=opening.vrf_proof.hex(), salt=opening.salt.hex(),
            spend=self.declared(terms, spend),
        )  # fmt: skip

    def declared(self, terms: PrivacyTerms, spend: Spend) -> SpendForm:
        """The public record of a spend: the cohort's lifetime epsilon, at the contract's delta."""
        epsilon = shown_up(spend.accountant.epsilon(spend.after, terms.delta))
        known = spend.to_record() | terms.to_record() | {"epsilon": decimal_text(epsilon)}
        form = SampledSpend if "order" in known else SpendForm
        return form.model_validate({name: known[name] for name in form.model_fields})

    # verify

    def _verify(self, request: Request) -> Reply:
        chain, job, context = self._context(request)
        place = _place(request)
        signed = self.memory.signed(place, "close")
        if signed is None:
            raise PhaseOutOfOrder("this hospital has closed no set", "start with train")
        entries = [Entry(data) for data in request.entries]
        commitments = [e for e in entries if isinstance(e.record, Commitment)]
        proofs = [e for e in entries if isinstance(e.record, Proof)]
        if closed_set_digest(commitments) != signed[0] or len(proofs) != len(request.content):
            raise SetSignedAlready(
                "the commitments are not the set that was closed", "verify that set"
            )
        judges = committee(context, [e.record for e in proofs if isinstance(e.record, Proof)])
        if self.folder.institution not in judges:
            raise NotOnCommittee(
                "this hospital is not on the committee that gives this round's verdicts",
                "ask those who are",
            )
        given = self.memory.signed(place, "verdict")
        if given is not None:
            return self._charged(job, place, given[1])
        for entry, data in zip(proofs, request.content, strict=True):
            # No verdict on bytes that a proof does not name: the coordinator must not be able to
            # make an honest update look bad.
            chain.upcoming.check_entry(entry)
            check_record(context, entry.record, signed[0])
            if not is_update_of(entry.record, data, context.model):
                raise PhaseOutOfOrder("an update is not the one its proof names", "send that one")
        for data in request.content:
            self.folder.content.put(data)
        reveals = {
            entry.record.author: Reveal(entry, data)
            for entry, data in zip(proofs, request.content, strict=True)
        }
        examined = examine(context, commitments, reveals)
        record = Verdict(
            v=1, type="verdict", ledger=chain.ledger, author=self.folder.institution,
            job=job.job, round=context.round, attempt=context.attempt, digest=signed[0],
            reveals=revealed_set_digest(proofs), findings=self.judged(job, context, examined),
        )  # fmt: skip
        _, kept = self.memory.keep_signed(place, "verdict", signed[0], self._sign(record).data)
        return self._charged(job, place, kept)

    def _charged(self, job: Job, place: Place, verdict: bytes) -> Reply:
        """A verdict that is kept, once it is charged: no other one ever leaves for the charge."""
        if release_noise(job) is not None:
            validation = Cohort.open(self.folder, job.task).budget_of("validation")
            self.folder.budget.charge(validation, *place, digest(verdict))
        return Reply(self.folder.institution, (verdict,))

    def judged(
        self, job: Job, context: RoundContext, examined: Mapping[str, Examined]
    ) -> tuple[Finding, ...]:
        """What this hospital finds of each reveal."""
        return findings(context, examined, self.validator(job), self.folder.institution)

    def validator(self, job: Job) -> Validator:
        """This hospital's validation patients, and how a model predicts on them."""
        cohort = Cohort.open(self.folder, job.task)
        return Validator(
            cohort.labels("validation"), cohort.predictor("validation", job.seed),
            release_noise(job),
        )  # fmt: skip

    @staticmethod
    def _members_entries(chain: Chain, entries: Sequence[bytes], kind: type[Record]) -> list[Entry]:
        """Entries of one kind, each by another member, each signature checked."""
        checked = [Entry(data) for data in entries]
        for entry in checked:
            chain.upcoming.check_entry(entry)
        authors = [entry.record.author for entry in checked]
        if len(set(authors)) != len(authors) or not all(
            isinstance(entry.record, kind) for entry in checked
        ):
            raise PhaseOutOfOrder("the records are not one a member", "send each member's one")
        return checked


def _place(request: Request) -> Place:
    return request.job, request.round, request.attempt


def _internal(error: Exception) -> str:
    """The code for what nobody foresaw. Of the error only its class and place are logged: its text
    may hold a patient's value."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    log.error("InternalError: %s at %s", type(error).__name__, place)
    return "InternalError"
