"""What bounds one patient's influence on one step: the factor on that patient's gradient.

Both rules keep the norm of every scaled gradient at or below `clip`, so the sum's sensitivity to
adding or removing a patient is `clip`.
"""

import math

from torch import Tensor

from privacy.contract import AUTOMATIC_CLIPPING_STABILITY
from privacy.errors import ClipInvalid, NonFiniteUpdate


def clip_factors(squared_norms: Tensor, clip: float, clipping: str) -> Tensor:
    """Factor per patient, shape [n], from the squared norms of their flat gradients, shape [n].

    "flat": min(1, clip / norm), Abadi et al. 2016. "automatic": clip / (norm + 0.01), AUTO-S of
    Bu et al. 2023. Raises ClipInvalid, or NonFiniteUpdate when a norm is not finite.
    """
    norms = squared_norms.sqrt()
    if not math.isfinite(norms.sum().item()):
        raise NonFiniteUpdate(
            "a gradient is not finite",
            "check the job's learning rate and the global model it starts from",
        )
    if clipping == "automatic":
        return clip / (norms + AUTOMATIC_CLIPPING_STABILITY)
    if clipping == "flat":
        return (clip / norms).clamp(max=1.0)
    raise ClipInvalid(
        f"clipping is {clipping!r}; allowed: flat, automatic", "name one of the two in the contract"
    )
