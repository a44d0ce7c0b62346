"""The hospital's witness: fetches each proposed block, derives it anew, and only then co-signs.

It signs a block when it follows from the one before, when every record in it re-derives (round
rules, model hash, medians, credits), when no record in this hospital's name differs from what the
hospital signed, and when no other block at that height was ever signed. What it signs is stored
before it is sent. It never signs on anybody's word, the coordinator's included.
"""

import time
from dataclasses import replace

from consortium.enrolment import check_member
from consortium.rounds.replay import Checked, check_block
from hospital_agent.errors import ClocksDiffer, ForkRefused, GenesisRefused, OwnRecordChanged
from hospital_agent.folder import HospitalFolder
from hospital_agent.ledger_api import LedgerApi
from hospital_agent.rounds import RoundMemory
from hospital_agent.view import ReplicaView
from ledger.block import Block
from ledger.chain import Chain
from ledger.keys import Role
from ledger.note import cosign, verify_note
from ledger.records import Close, Commitment, Refusal, Verdict

CLOCK_TOLERANCE_S = 300


class Witness:
    """One hospital's witness over one consortium's API."""

    def __init__(self, folder: HospitalFolder, api: LedgerApi) -> None:
        self._folder = folder
        self._api = api
        self._memory = RoundMemory(folder.path / "rounds.sqlite")
        self._view = ReplicaView(folder, api.fetch)

    def step(self) -> int:
        """Follows the ledger to its newest block, co-signing each; returns that height.

        Raises:
            LedgerError, ConsortiumError, AgentError: if a block does not hold; it is not signed.
        """
        newest = self._api.newest_height()
        known = self._view.replica.height()
        if newest < known:
            raise ForkRefused(
                f"the ledger ends at height {newest}, this hospital has co-signed {known}",
                "the coordinator lost blocks, or hides them: compare with the other institutions",
            )
        for height in range(max(known, 0), newest + 1):
            block = self._api.block(height)
            # Of a block that is known already, the stored bytes are sent once more.
            try:
                line = self._view.replica.cosignature(block.header)
            except ForkRefused:
                self._keep_evidence(block)
                raise
            line = line or self._sign(block)
            self._release(block)
            self._api.send_cosignature(height, line)
        return newest

    def _keep_evidence(self, block: Block) -> None:
        """Only what the coordinator really signed is evidence."""
        text = block.checkpoint.text()
        if block.checkpoint.block_hash.hex() == block.header.hash:
            key = self._view.refresh().coordinator[Role.COSIGN]
            verify_note(block.signature, block.checkpoint.origin, key, text)
            self._view.replica.keep_evidence(block)

    def _sign(self, block: Block) -> str:
        if self._view.replica.height() < 0:
            chain = self._begin(block)
            checked = Checked()
        else:
            chain = replace(self._view.refresh())
            chain.follow(block)
            checked = check_block(self._view, block.entries)
            self._check_own(block)
        if block.header.time > time.time() + CLOCK_TOLERANCE_S:
            raise ClocksDiffer(
                "the block's time lies in the future",
                "set both clocks (NTP); a block is never signed ahead of its time",
            )
        if checked.model is not None:
            self._folder.models.put(checked.model)
        line = cosign(
            self._folder.institution, self._folder.keys[Role.COSIGN], chain.checkpoint.text(),
            int(time.time()),
        )  # fmt: skip
        return self._view.replica.accept(block, line, checked)

    def _begin(self, block: Block) -> Chain:
        chain = Chain.begin(block, self._folder.ledger)
        for member in chain.members.values():
            check_member(member)
        own = chain.members.get(self._folder.institution)
        keys = self._folder.keys
        if own is None or any(own.key(role) != keys[role].public for role in Role):
            raise GenesisRefused(
                "the genesis does not hold this hospital with its own keys",
                "compare the fingerprints with the coordinator; do not join this ledger",
            )
        self._folder.pin_ledger(chain.ledger)
        return chain

    def _check_own(self, block: Block) -> None:
        """Nothing in this hospital's name but what it signed."""
        for entry in block.entries:
            record = entry.record
            if record.author != self._folder.institution:
                continue
            if isinstance(record, Commitment):
                trained = self._memory.trained((record.job, record.round, record.attempt))
                own = trained.commitment if trained else None
            elif isinstance(record, Close | Verdict | Refusal):
                place = (record.job, record.round, record.attempt)
                signed = self._memory.signed(place, record.type)
                own = signed[1] if signed else None
            else:
                continue  # a proof opens the one commitment that was made
            if own != entry.data:
                raise OwnRecordChanged(
                    f"a {record.type} in this hospital's name is not the one it signed",
                    "somebody else holds its record key: stop the agent and tell the other members",
                )

    def _release(self, block: Block) -> None:
        """Gives back what a job that is over had reserved and not spent; repeats are harmless."""
        for entry in block.entries:
            if entry.record.type != "job-end":
                continue
            job = str(entry.record.body()["job"])
            budget = self._folder.budget
            for cohort in budget.cohorts():
                if any(held.job == job for held in budget.status(cohort).jobs):
                    budget.release(cohort, job)
