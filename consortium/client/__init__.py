"""The consortium's API from Python: `Consortium`, and `AsyncConsortium` with the same methods.

Example::

    from consortium.client import Consortium

    with Consortium("https://consortium.example", genesis=FINGERPRINT) as consortium:
        newest = next(consortium.jobs(order="newest"))
        model = consortium.model(newest.model)
        model.verify()
        model.download("model.safetensors")

What comes back has the forms of `consortium.api.schemas`. What goes wrong is an `ApiError`, with
the server's code; what does not verify is a `ledger.errors.LedgerError`.
"""

from consortium.client.api import AsyncConsortium, Consortium
from consortium.client.errors import (
    ApiError,
    Failed,
    Invalid,
    NotAllowed,
    NotFound,
    TooMany,
    Unreachable,
    Unsafe,
)

__all__ = [
    "ApiError",
    "AsyncConsortium",
    "Consortium",
    "Failed",
    "Invalid",
    "NotAllowed",
    "NotFound",
    "TooMany",
    "Unreachable",
    "Unsafe",
]
