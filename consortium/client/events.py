"""The API's server-sent events, for as long as somebody wants them (WHATWG HTML, section 9.2).

Each event is a whole state: after a break nothing that still holds was missed, and what has not
changed meanwhile is not told twice.
"""

from collections.abc import Callable

from pydantic import ValidationError

from consortium.api.schemas import Head, Job
from consortium.client.errors import TooMany, Unreachable, unreachable
from consortium.client.plan import Answer, Line, Listen, Plan, Wait, check

Event = Head | Job
PATH = "/v1/events"
SILENCE_S = 45.0  # the API says every 15 s that it is still there
LONGEST_WAIT_S = 30.0
PATIENCE_S = 300.0  # of waits between attempts, none of which gave an event


def listen(react: Callable[[Event], Plan[bool]]) -> Plan[None]:
    """Hands every event to ``react``, until it returns true; connects again where it must.

    Raises:
        Unreachable: if the API stays away.
        ApiError: if it refuses, or ``react`` raises one.
    """
    known: dict[str, Event] = {}
    wait, waited = 1.0, 0.0
    while True:
        try:
            answer: Answer = yield Listen(PATH, SILENCE_S)
            check(answer)
            while (event := (yield from _next_event())) is not None:
                wait, waited = 1.0, 0.0
                about = event.job if isinstance(event, Job) else ""
                if known.get(about) == event:
                    continue
                if (yield from react(event)):
                    return
                known[about] = event
        except (Unreachable, TooMany):
            if waited >= PATIENCE_S:
                raise
        yield Wait(wait)
        waited, wait = waited + wait, min(2 * wait, LONGEST_WAIT_S)


def _next_event() -> Plan[Event | None]:
    """The next event of a kind that is known; None where the stream ends."""
    name, data = "", ""
    while True:
        line: str | None = yield Line()
        if line is None:
            return None
        field, _, value = line.partition(":")
        if field == "event":
            name = value.strip()
        elif field == "data":
            data += value.strip()
        elif not line:
            if name in ("head", "job"):
                return _parse(name, data)
            name, data = "", ""


def _parse(name: str, data: str) -> Event:
    try:
        return (Head if name == "head" else Job).model_validate_json(data)
    except ValidationError:
        raise unreachable("an event is of another form: another version, or no API") from None
