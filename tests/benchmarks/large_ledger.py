"""A ledger of a million leaves, in a home under build/: made once, served by the real commands.

Four hospitals, jobs of a hundred rounds, a block a round as the coordinator puts it together (four
commitments, closes, proofs and verdicts, one result), every record and every block signed and
co-signed with real keys. What updates and models would hold is left out: digests stand for them.
"""

import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, cached_property
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from consortium.contract import JobOrder, make_job
from consortium.home import Home, open_home
from consortium.rounds.checks import privacy_terms
from consortium.rounds.rewards import round_credits
from ledger.block import Block
from ledger.chain import Chain
from ledger.database import open_database
from ledger.entry import Entry, sign_record
from ledger.keys import KeyRing, Role
from ledger.note import SignatureLine
from ledger.postgres import EmbeddedPostgres
from ledger.records import (
    ACCEPTED,
    Close,
    Commitment,
    Finding,
    Job,
    JobEnd,
    Outcome,
    Payment,
    Proof,
    Record,
    Result,
    Spend,
    Verdict,
)
from ledger.rows import insert_blocks
from ledger.schema import cosignatures
from ledger.sequencer import next_block
from privacy.accounting import decimal_up
from privacy.budget_status import epsilon_up
from privacy.contract import decimal_text
from privacy.gaussian import mu_squared_of_round
from tests.ledger.ledger_examples import Consortium

ENTRIES = int(os.environ.get("ENTRIES", "1_000_000"))
ROUNDS, DECLARED = 100, 100
_BUILD = Path(__file__).parents[2] / "build"
_ROUND_S = 60
_AHEAD = 4


@dataclass(frozen=True)
class Founders(Consortium):
    """Four hospitals whose coordinator has its keys in a home."""

    home: Path

    @cached_property
    def coordinator(self) -> KeyRing:
        return Home(self.home).keys


def large_ledger() -> Path:
    """The home of the ledger; made if it is not there, or was made by other code."""
    home, made_by = _BUILD / f"ledger-{ENTRIES}", _made_by()
    marker = home / "made-by"
    if not marker.exists() or marker.read_text() != made_by:
        shutil.rmtree(home, ignore_errors=True)
        _make(home)
        marker.write_text(made_by)
    return home


def _made_by() -> str:
    root = Path(__file__).parents[2]
    forms = [root / "ledger" / f"{name}.py" for name in ("records", "entry", "block", "note")]
    return sha256(b"".join(path.read_bytes() for path in [Path(__file__), *forms])).hexdigest()


def _make(home: Path) -> None:
    home.parent.mkdir(exist_ok=True)
    began, jobs = time.monotonic(), -(-ENTRIES // (18 * ROUNDS + 4))
    with open_home(home) as opened:
        opened.found("benchmark", 0, {})
        four = Founders(4, home)
        spawning = get_context("spawn")  # the database's connections are this process's
        with (
            open_database(home) as engine,
            ProcessPoolExecutor(2, spawning, _begin_worker, (home,)) as pool,
        ):
            chain = four.begin()
            newest = _Final(four, chain, four.founding_block)
            made = [newest]
            for rounds in _ahead(pool, jobs):
                for round in rounds:
                    entries, clock = [Entry(data) for data in round], chain.header.time + _ROUND_S
                    block = next_block(chain, entries, newest.lines, clock, four.coordinator)
                    chain.follow(block, entries_checked=True)
                    made.append(newest := _Final(four, chain, block))
                with engine.begin() as connection:
                    insert_blocks(connection, [(one.block, one.frontier) for one in made])
                    connection.execute(cosignatures.insert(), [r for m in made for r in m.rows()])
                made.clear()
                _say(f"{chain.frontier.size} of {ENTRIES} leaves, {time.monotonic() - began:.0f} s")
        _tidy(home)


def _tidy(home: Path) -> None:
    """What the server does by itself in a quiet minute: its statistics, and its marks of what
    everybody sees."""
    with EmbeddedPostgres(home) as server:
        engine = create_engine(server.superuser_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("VACUUM (ANALYZE)"))
        engine.dispose()


class _Final:
    """A block, the tree with it, and all members' cosignatures on it."""

    def __init__(self, four: Founders, chain: Chain, block: Block) -> None:
        self.block, self.frontier = block, chain.frontier
        self.lines = four.cosign(block.checkpoint, time=block.header.time + 1)

    def rows(self) -> list[dict[str, str | int]]:
        signed = [(SignatureLine.parse(line).name, line) for line in self.lines]
        height = self.block.header.height
        return [{"height": height, "institution": name, "line": line} for name, line in signed]


def _ahead(pool: ProcessPoolExecutor, jobs: int) -> Iterator[list[list[bytes]]]:
    """Each job's blocks in order; signed by the others, a few jobs ahead of those stored."""
    waiting: deque[Future[list[list[bytes]]]] = deque()
    for number in range(1, jobs + 1):
        waiting.append(pool.submit(_blocks_of_job, number, number < jobs))
        if len(waiting) > _AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _say(what: str) -> None:
    print(f"\r{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, end="", flush=True)


# what the hospitals sign, in processes of their own

_four: Founders


def _begin_worker(home: Path) -> None:
    global _four
    _four = Founders(4, home)


def _blocks_of_job(number: int, ended: bool) -> list[list[bytes]]:
    """The entries of a job's blocks: its contract, each round's, its end."""
    job = _contract().model_copy(update={"job": f"breast-cancer-{number}"})
    blocks = [[_signed(job)]]
    blocks += [_round(job, round) for round in range(1, ROUNDS + 1)]
    if ended:
        end = JobEnd(
            v=1, type="job-end", ledger=job.ledger, author="coordinator", job=job.job,
            status="finished", rounds=ROUNDS, model=_model(job, ROUNDS),
        )  # fmt: skip
        blocks.append([_signed(end)])
    return blocks


@cache
def _contract() -> Job:
    order = JobOrder("breast-cancer", ROUNDS, Decimal(1), Decimal("0.00001"), 0)
    return make_job(_four.ledger, "breast-cancer", order, dict.fromkeys(_four.members, DECLARED))


def _round(job: Job, round: int) -> list[bytes]:
    """What four honest hospitals and the coordinator sign in one round."""
    place = {"v": 1, "ledger": job.ledger, "job": job.job, "round": round, "attempt": 1}
    named = sorted(_four.members)

    def made(what: str, author: str = "") -> str:
        return sha256(f"{job.job} {round} {what} {author}".encode()).hexdigest()

    base, closed, revealed = made("base"), made("closed"), made("revealed")
    before = _model(job, round - 1)
    records: list[Record] = [
        Commitment(type="commitment", author=name, base=base, model=before,
                   commitment=made("commitment", name), **place)
        for name in named
    ]  # fmt: skip
    records += [Close(type="close", author=name, digest=closed, **place) for name in named]
    records += [
        Proof(type="proof", author=name, digest=closed, update=made("update", name),
              vrf_proof=(3 * made("vrf", name))[:160], salt=made("salt", name),
              spend=_spend(round), **place)
        for name in named
    ]  # fmt: skip
    records += [
        Verdict(type="verdict", author=name, digest=closed, reveals=revealed,
                findings=tuple(_finding(name, other, round) for other in named), **place)
        for name in named
    ]  # fmt: skip
    records.append(_result(job, round, base, closed, place))
    return [_signed(record) for record in records]


def _result(job: Job, round: int, base: str, closed: str, place: dict[str, Any]) -> Result:
    named = sorted(_four.members)
    learner = named[round % len(named)]
    averages = {name: 100 + 25 * (name == learner) for name in named}
    credits = round_credits(
        _four.genesis.policy.credits, averages=averages, verdicts=named, participants=len(named),
        learner=learner,
    )  # fmt: skip
    return Result(
        type="result", author="coordinator", base=base, digest=closed,
        model_before=_model(job, round - 1), model_after=_model(job, round), void=False,
        again=False,
        proofs=tuple(
            Outcome(institution=name, code=ACCEPTED, score=9000, shapley=25,
                    average=averages[name], credits=credits.learning[name])
            for name in named
        ),
        fees=tuple(Payment(institution=n, credits=c) for n, c in credits.fees.items()),
        absent=(), learner=learner, bonus=credits.bonus, minted=credits.minted, **place,
    )  # fmt: skip


def _finding(validator: str, other: str, round: int) -> Finding:
    own = validator == other
    return Finding(
        institution=other, code=ACCEPTED, score=None if own else 9000 + round % 100,
        harmful=None if own else False, shapley=None if own else 25,
    )  # fmt: skip


@cache
def _spend(round: int) -> Spend:
    terms = privacy_terms(_contract().participants[0])
    cost = mu_squared_of_round(terms)
    known = terms.to_record() | {
        "cohort": "c" * 32,
        "mu2_before": decimal_up((round - 1) * cost),
        "mu2_after": decimal_up(round * cost),
        "epsilon": decimal_text(epsilon_up(round * cost, terms.delta)),
        "delta": decimal_text(terms.delta),
    }
    return Spend.model_validate({name: known[name] for name in Spend.model_fields})


def _model(job: Job, round: int) -> str:
    if round == 0:
        return job.initial_model
    return sha256(f"{job.job} model {round}".encode()).hexdigest()


def _signed(record: Record) -> bytes:
    author = record.author
    keys = _four.coordinator if author == "coordinator" else _four.members[author]
    return sign_record(record, [keys[Role.RECORD]]).data
