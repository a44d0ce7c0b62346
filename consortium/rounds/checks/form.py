"""Check 4: the update has the model's names, shapes and types, and is finite; un-mapped."""

import numpy as np

from consortium import weights as weight_forms
from consortium.errors import RoundInvalid
from consortium.rounds.checks.context import Failed, RoundContext
from consortium.rounds.checks.mapping import check_mapping
from ledger.content import Weights
from ledger.records import Proof
from sml.mapping import SecureMapping


def check_form(context: RoundContext, mapping: SecureMapping, update: bytes) -> Weights:
    """The un-mapped update, to the bit the one that was mapped.

    Raises:
        Failed: ``UpdateMalformed``, ``UpdateNotFinite``.
    """
    try:
        mapped = weight_forms.from_bytes(update)
    except RoundInvalid:
        raise Failed("UpdateMalformed") from None
    if {n: (a.dtype, a.shape) for n, a in mapped.items()} != {
        n: (a.dtype, a.shape) for n, a in context.model.items()
    }:
        raise Failed("UpdateMalformed")
    if not all(np.isfinite(array).all() for array in mapped.values()):
        raise Failed("UpdateNotFinite")
    return mapping.unmap_state(mapped)


def unmapped_step(context: RoundContext, proof: Proof, update: bytes) -> np.ndarray | None:
    """The step of an update that was revealed, un-mapped; None where checks 3 or 4 fail."""
    try:
        weights = check_form(context, check_mapping(context, proof.author, proof), update)
    except Failed:
        return None
    return weight_forms.vector(weights) - weight_forms.vector(context.model)
