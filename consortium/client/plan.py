"""Requests as values: what is asked, apart from how it is sent.

A plan is a generator. It yields steps, gets each step's outcome back, and returns its result; so
one plan serves a blocking transport and an asynchronous one, and there is one place for each
request's logic, retries and paging included.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, Generic, TypeVar, cast
from urllib.parse import quote

from pydantic import ValidationError

from consortium.api.schemas import Form, Page
from consortium.client.errors import refused, unreachable

T = TypeVar("T")
F = TypeVar("F", bound=Form)
Item = TypeVar("Item")
Query = Mapping[str, str | int | None]

MOST_RETRIES = 3
MOST_WAIT_S = 60.0  # in one request; whoever is told to wait longer is told so
PAGE = 200


@dataclass(frozen=True)
class Answer:
    """What came back. ``body`` is empty where it went into a file."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Get:
    """Step: one GET, to an `Answer`. A success goes into the file ``into``, if there is one.

    ``silence_s``: how long nothing may come, where that is longer than usual.
    """

    path: str
    query: Query = field(default_factory=dict)
    into: BinaryIO | None = None
    silence_s: float | None = None

    @property
    def asked(self) -> dict[str, str | int]:
        """What stands in the query: nothing of what was left open."""
        return {name: value for name, value in self.query.items() if value is not None}


@dataclass(frozen=True)
class Listen:
    """Step: opens a stream of lines, to an `Answer`. It takes the place of one that was open."""

    path: str
    silence_s: float


@dataclass(frozen=True)
class Line:
    """Step: the next line of the stream; None at its end."""


@dataclass(frozen=True)
class Wait:
    """Step: lets time pass."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Step: something that takes a while and asks nobody, to its result."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Emit:
    """Step: one item for whoever iterates over the plan."""

    item: Any


Step = Get | Listen | Line | Wait | Work | Emit
Plan = Generator[Step, Any, T]


@dataclass(frozen=True)
class Flow(Generic[Item]):
    """A plan that emits items, one after another."""

    plan: Plan[None]


@dataclass(frozen=True)
class Done(Generic[T]):
    """A plan's end."""

    value: T


def advance(plan: Plan[T], outcome: Any = None, error: Exception | None = None) -> Step | Done[T]:
    """Gives a plan the outcome of its last step, or an error; its next step, or its end."""
    try:
        return plan.send(outcome) if error is None else plan.throw(error)
    except StopIteration as end:
        return Done(end.value)


def path(*parts: str | int) -> str:
    """A path of the API; whatever a part holds, it stays one part."""
    return "/".join(("/v1", *(quote(str(part), safe="") for part in parts)))


def fetch(form: type[F], place: str, query: Query | None = None) -> Plan[F]:
    """One thing of the API.

    Raises:
        ApiError: if it is refused, or does not come.
    """
    answer = yield from get(place, query)
    try:
        return form.model_validate_json(answer.body)
    except ValidationError:
        raise unreachable("what came is of another form: another version, or no API") from None


def pages(form: type[Page[Item]], place: str, query: Query | None = None) -> Flow[Item]:
    """All items of a list, page after page, each when it is needed."""
    return Flow(_pages(form, place, query))


def whole(form: type[Page[Item]], place: str, query: Query) -> Flow[Item]:
    """All items of a list that comes as one page."""
    return Flow(_whole(form, place, query))


def _whole(form: type[Page[Item]], place: str, query: Query) -> Plan[None]:
    page = yield from fetch(form, place, query)
    for item in page.items:
        yield Emit(item)


def _pages(form: type[Page[Item]], place: str, query: Query | None) -> Plan[None]:
    cursor: str | None = None
    while True:
        page = yield from fetch(form, place, {**(query or {}), "limit": PAGE, "cursor": cursor})
        for item in page.items:
            yield Emit(item)
        if page.next is None:
            return
        cursor = page.next


def first(flow: Flow[Item], wanted: Callable[[Item], bool]) -> Plan[Item | None]:
    """The first item of a flow that is wanted; None if there is none."""
    at = advance(flow.plan)
    while not isinstance(at, Done):
        if isinstance(at, Emit):
            if wanted(at.item):
                return cast(Item, at.item)
            at = advance(flow.plan)
        else:
            at = advance(flow.plan, (yield at))
    return None


def get(
    place: str,
    query: Query | None = None,
    into: BinaryIO | None = None,
    silence_s: float | None = None,
) -> Plan[Answer]:
    """A GET that succeeded, after waiting where the API asks to come back later.

    Raises:
        ApiError: if it is refused, or does not come.
    """
    waited = 0.0
    for attempt in range(MOST_RETRIES + 1):
        answer: Answer = yield Get(place, query or {}, into, silence_s)
        if answer.status not in (429, 503) or attempt == MOST_RETRIES:
            break
        wait = retry_after(answer.headers, default=2.0**attempt)
        waited += wait
        if waited > MOST_WAIT_S:
            break
        yield Wait(wait)
    return check(answer)


def work(function: Callable[[], T]) -> Plan[T]:
    """Something that takes a while and asks nobody."""
    result: T = yield Work(function)
    return result


def check(answer: Answer) -> Answer:
    """A success as it is.

    Raises:
        ApiError: if it is none.
    """
    if answer.status != 200:
        raise refused(answer.status, answer.body)
    return answer


def retry_after(headers: Mapping[str, str], default: float) -> float:
    """Seconds to wait, as an answer says (RFC 9110, section 10.2.3)."""
    text = headers.get("retry-after", "")
    if text.isdecimal():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return default
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
