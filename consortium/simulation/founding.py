"""Founding a simulated consortium: enrolment, the genesis signed by everyone, block 0 co-signed."""

from collections.abc import Callable, Sequence

from consortium.coordinator.view import StoreView
from consortium.enrolment import check_member
from consortium.errors import NotFinal
from consortium.founding import DEFAULT_CREDITS
from consortium.simulation.hospital import SimulatedHospital
from ledger.entry import assemble, record_signature
from ledger.errors import QuorumMissing
from ledger.keys import KeyRing, Role
from ledger.records import CreditPolicy, Genesis, KeyForm, Policy

POLICY = Policy(
    quorum="floor((n+f)/2)+1",
    credits=CreditPolicy(**DEFAULT_CREDITS),
)


def found_ledger(
    view: StoreView, keys: KeyRing, hospitals: Sequence[SimulatedHospital], created: int
) -> None:
    """Stores the genesis of a new consortium, signed by the coordinator and all founders.

    Killed and repeated, it makes the same genesis: ``created`` was noted before anybody signed.
    """
    members = sorted((hospital.enrol() for hospital in hospitals), key=lambda member: member.id)
    for member in members:
        check_member(member)
    genesis = Genesis(
        v=1,
        type="genesis",
        author="coordinator",
        consortium="Simulated consortium",
        coordinator={role: KeyForm.of(keys[role].public) for role in (Role.RECORD, Role.COSIGN)},
        founders=tuple(members),
        policy=POLICY,
        created=created,
    )
    by_id = {hospital.id: hospital for hospital in hospitals}
    signatures = [record_signature(genesis, keys[Role.RECORD])]
    signatures += [by_id[member.id].sign_genesis(genesis) for member in members]
    view.store.found(assemble(genesis, signatures), keys)


def cosigning(
    view: StoreView,
    hospitals: Sequence[SimulatedHospital],
    witness: Callable[[SimulatedHospital], None],
) -> Callable[[int], None]:
    """How a block becomes final in a simulation: each hospital's witness is called in turn."""

    def wait_final(height: int) -> None:
        refusals = []
        for hospital in hospitals:
            try:
                witness(hospital)
            except Exception as error:  # one member's trouble must not stop the others
                refusals.append(f"{hospital.id}: {getattr(error, 'code', 'InternalError')}")
        try:
            view.store.require_final(height)
        except QuorumMissing as error:
            raise NotFinal(
                f"{error.what}. Refused: {', '.join(refusals) or 'nobody'}",
                "the block stays proposed; find out why members refuse it",
            ) from None

    return wait_final
