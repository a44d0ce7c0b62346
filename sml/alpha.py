"""What a round's mapping is drawn from: the input `alpha` of the verifiable random function.

Rules that hold here:

- alpha names the ledger, the block the round starts from, the job, the round, the institution and
  the global model, so no proof serves a second round, institution, model or ledger;
- different fields give different bytes: seven lines, each ended by a newline, the first naming the
  domain, and no field is empty or holds anything but visible ASCII. The round is a decimal
  without sign or leading zeros.

RFC 9381 calls the input alpha_string and leaves its encoding to the application (section 1.1).
"""

import re
from typing import Final

from sml.errors import MappingInvalid

DOMAIN: Final = "medpole/sml/alpha/v1"
_FIELD: Final = re.compile(r"[\x21-\x7e]+")
_LINES: Final = re.compile(r"([\x21-\x7e]+\n){7}")


def alpha(
    ledger_id: str,
    previous_block: str,
    job: str,
    round: int,
    institution: str,
    model_hash: str,
) -> bytes:
    """Encode the input of the random function for one institution in one round.

    Args:
        ledger_id: the ledger's id.
        previous_block: hash of the final block that the round starts from.
        job: the job's id.
        round: the round's number in the job, 0 or more.
        institution: the institution's id.
        model_hash: hash of the global model that the round starts from.

    Returns:
        Seven lines of ASCII, each ended by a newline.

    Raises:
        MappingInvalid: a field is empty or holds anything but visible ASCII, or `round` is no
            integer or below 0.
    """
    if isinstance(round, bool) or not isinstance(round, int) or round < 0:
        raise MappingInvalid(
            f"The round is {round!r}, not an integer from 0 up.",
            "Pass the round's number as the round header gives it.",
        )
    fields = {
        "ledger_id": ledger_id,
        "previous_block": previous_block,
        "job": job,
        "round": str(round),
        "institution": institution,
        "model_hash": model_hash,
    }
    text = "\n".join((DOMAIN, *fields.values(), ""))
    # A newline within a field would make an eighth line.
    if _LINES.fullmatch(text) is None:
        name = next(name for name, value in fields.items() if _FIELD.fullmatch(value) is None)
        raise MappingInvalid(
            f"The field {name} is empty or holds a space, a control or a non-ASCII character.",
            "Use an id or a hexadecimal hash: visible ASCII only.",
        )
    return text.encode("ascii")
