"""The report for people: what it counts, what it says, and that nothing can be slipped into it."""

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_examples import (
    Consortium,
    approve,
    block_on,
    decided,
    enrol,
    keys_of,
    propose,
    remove,
    rotate,
    secret_of,
    set_policy,
    suspend,
)

from ledger.block import Header
from ledger.chain import Chain
from ledger.entry import Entry, sign_record
from ledger.keys import Role
from ledger.records import parse_record
from ledger.report import Tally, html, jobs, markup
from ledger.report import page as page_of_it
from ledger.report import tally as counted
from ui.words import PROOF_CODES

FOUR = Consortium(4)
HOSPITALS = list(FOUR.members)
LIMITS = {
    "false_alarm": "0.0001", "reach": "1", "residual_signal": "5", "opposition": "0.1",
    "drop": 1500, "drop_with_noise": 9000,
}  # fmt: skip
TERMS = {
    "rounds": 3, "steps": 10, "sample_rate": "0.1", "noise_multiplier": "2", "clip": "1",
    "clipping": "flat", "learning_rate": "0.5", "normaliser": 100, "epsilon": "1",
    "delta": "0.00001",
}  # fmt: skip


def signed(chain: Chain, author: str, **body: Any) -> Entry:
    """A record by the coordinator, or a member, under its record key in force."""
    record = parse_record({"v": 1, "ledger": chain.ledger, "author": author, **body})
    keys = chain.upcoming.coordinator if author == "coordinator" else chain.members[author].keys
    return sign_record(record, [secret_of(keys[Role.RECORD])])


def job(chain: Chain, name: str, names: Iterable[str] = HOSPITALS, **changed: Any) -> Entry:
    participants = [
        {"institution": n, "weight": 100 + i, "terms": TERMS} for i, n in enumerate(names)
    ]
    body = {
        "type": "job", "job": name, "task": "breast-cancer", "task_fingerprint": "ab" * 32,
        "rounds": 3, "seed": 0, "initial_model": "00" * 32, "average_from": 2,
        "aggregation": "weighted-mean",
        "participants": participants, "thresholds": LIMITS,
        "scores": {"kind": "banded"}, "committee": 4,
        "durations": {"train": 600, "close": 60, "reveal": 120, "verify": 600},
    }  # fmt: skip
    return signed(chain, "coordinator", **{**body, **changed})


def proof(chain: Chain, author: str, job: str, round: int, epsilon: str, **spend: Any) -> Entry:
    return signed(
        chain, author, type="proof", job=job, round=round, attempt=1, digest="cd" * 32,
        update="ef" * 32, vrf_proof="ab" * 80, salt="01" * 32,
        spend={
            "cohort": "c" * 32, "steps": 10, "sample_rate": "0.1", "noise_multiplier": "2",
            "clip": "1", "normaliser": 100, "mu2_before": "0", "mu2_after": "0.1",
            "epsilon": epsilon, "delta": "0.00001", **spend,
        },
    )  # fmt: skip


def refusal(chain: Chain, author: str, job: str, round: int, code: str = "BudgetExceeded") -> Entry:
    return signed(chain, author, type="refusal", job=job, round=round, attempt=1, code=code)


def outcome(institution: str, code: str = "Accepted", credits: int = 0) -> dict[str, Any]:
    return {
        "institution": institution, "code": code, "score": 9000, "shapley": 10, "average": 10,
        "credits": credits,
    }  # fmt: skip


def result(
    chain: Chain,
    job: str,
    round: int,
    proofs: Sequence[dict[str, Any]],
    fees: dict[str, int] | None = None,
    learner: str | None = None,
    bonus: int = 0,
    absent: Sequence[tuple[str, str, str]] = (),
    again: bool = False,
) -> Entry:
    paid = fees or {}
    return signed(
        chain, "coordinator", type="result", job=job, round=round, attempt=1, base="11" * 32,
        digest="22" * 32, model_before="33" * 32, model_after="44" * 32,
        void=not any(p["code"] == "Accepted" for p in proofs), again=again, proofs=list(proofs),
        fees=[{"institution": n, "credits": c} for n, c in paid.items()],
        absent=[{"institution": n, "phase": p, "code": c} for n, p, c in absent],
        learner=learner, bonus=bonus,
        minted=sum(p["credits"] for p in proofs) + sum(paid.values()) + bonus,
    )  # fmt: skip


def job_end(chain: Chain, job: str, status: str = "finished", rounds: int = 3) -> Entry:
    return signed(
        chain, "coordinator", type="job-end", job=job, status=status, rounds=rounds,
        model="55" * 32,
    )  # fmt: skip


class Ledger:
    """Blocks, each final, and the chain after them."""

    def __init__(self, consortium: Consortium = FOUR) -> None:
        self.chain = consortium.begin()
        self.blocks = [consortium.founding_block]

    def put(self, *entries: Entry) -> None:
        block = block_on(self.chain, *entries)
        self.chain.follow(block)
        self.blocks.append(block)

    def entries(self, first: int = 0) -> list[tuple[Header, Entry]]:
        return [(b.header, entry) for b in self.blocks[first:] for entry in b.entries]

    def tally(self, first: int = 0) -> Tally:
        return tally_of(self.entries(first))

    def page(self, first: int = 0) -> "Page":
        return Page(html(self.chain, self.tally(first), first))


def tally_of(entries: Iterable[tuple[Header, Entry]]) -> Tally:
    tally = Tally()
    for header, entry in entries:
        tally.add(header, entry)
    return tally


def small() -> Ledger:
    """What the numbers below are counted from, by hand."""
    ledger = Ledger()
    chain, put = ledger.chain, ledger.put
    enrolment = propose(chain.upcoming, enrol(chain.ledger, "hospital-5"), author="hospital-1")
    policy = propose(chain.upcoming, set_policy(500))
    put(enrolment, policy)  # block 1
    by_two = approve(chain.upcoming, enrolment, "hospital-1", "hospital-2")
    put(*approve(chain.upcoming, policy, "hospital-2"), *by_two)
    by_last = approve(chain.upcoming, enrolment, "hospital-4")
    put(*approve(chain.upcoming, policy, "hospital-3"), *by_last)  # block 3: decided
    put(job(chain, "job-1"))  # block 4
    put(
        proof(chain, "hospital-1", "job-1", 1, "0.5"),
        proof(chain, "hospital-2", "job-1", 1, "0.5"),
        proof(chain, "hospital-3", "job-1", 1, "0.5"),
        refusal(chain, "hospital-4", "job-1", 1),
        result(
            chain, "job-1", 1,
            [outcome("hospital-1", credits=500), outcome("hospital-2", credits=200),
             outcome("hospital-3", "Harmful")],
            {"hospital-1": 50, "hospital-2": 50}, "hospital-1", 100,
            [("hospital-4", "train", "BudgetExceeded")],
        ),
    )  # fmt: skip
    put(
        proof(chain, "hospital-1", "job-1", 2, "0.7"),
        result(
            chain, "job-1", 2, [outcome("hospital-1", "NoQuorum")],
            absent=[("hospital-3", "verify", "NoAnswer"), ("hospital-4", "train", "NoAnswer")],
        ),
    )  # fmt: skip
    put(
        proof(chain, "hospital-1", "job-1", 3, "0.9000001"),
        proof(chain, "hospital-2", "job-1", 3, "0.8", delta="0.0001", cohort="d" * 32),
        refusal(chain, "hospital-4", "job-1", 3, "PolicyRefused"),
        result(
            chain, "job-1", 3,
            [outcome("hospital-1", "NearCopy"), outcome("hospital-2", credits=700),
             outcome("hospital-3", credits=100)],
            {"hospital-2": 50}, "hospital-3", 1000,
            [("hospital-4", "train", "PolicyRefused")],
        ),
    )  # fmt: skip
    put(job_end(chain, "job-1"))
    put(signed(chain, "hospital-1", type="erasure", disclosure="99" * 32))
    removal = propose(chain.upcoming, remove("hospital-5"))
    put(removal, *approve(chain.upcoming, removal, "hospital-2"))  # block 10
    return ledger


LEDGER = small()


class Page(HTMLParser):
    """What somebody sees: tables by the start of their caption, facts, text; and what they do not.

    Every element has its end, but for those that HTML leaves without.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.source = data.decode()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.facts: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self._begun: dict[str, int] = {}
        self.feed(self.source)
        self.close()
        assert not self._open
        self.text = re.sub(r"\s+", " ", "".join(self.texts))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "wbr", "li"):
            self._open.append(tag)
            self._begun[tag] = len(self.texts)
        if tag == "table":
            self.rows = []
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        said = "".join(self.texts[self._begun[tag] :]).replace("\N{NO-BREAK SPACE}", " ")
        if tag in ("td", "th"):
            self.rows[-1].append(said)
        elif tag == "caption":
            self.tables[said] = self.rows
        elif tag == "dt":
            self.facts.append((said, ""))
        elif tag == "dd":
            self.facts[-1] = (self.facts[-1][0], said)
        if tag in ("p", "h1", "h2", "h3", "td", "th", "dt", "dd", "caption", "title"):
            self.texts.append(" ")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def table(self, caption: str) -> list[list[str]]:
        """The rows of one table, without its head."""
        [rows] = [rows for text, rows in self.tables.items() if text.startswith(caption)]
        return rows[1:]

    def fact(self, name: str) -> list[str]:
        return [value for found, value in self.facts if found == name]


PAGE = LEDGER.page()


# every number, against a count by hand


def test_the_head_says_what_ledger_it_is_and_how_far_it_goes() -> None:
    assert "<title>Example: ledger report</title>" in PAGE.source
    assert FOUR.ledger in PAGE.text  # whole, though shown in groups
    assert PAGE.fact("Blocks") == ["0 to 10, from the genesis on"]
    assert PAGE.fact("First entry") == ["2025-06-15 15:06:40 UTC"]
    assert PAGE.fact("Last block") == ["2025-06-15 15:07:40 UTC"]


def test_the_figures_are_those_of_a_count_by_hand() -> None:
    expected = {
        "Entries": "24", "Institutions": "5", "Jobs": "1", "Proofs accepted": "4",
        "Proofs rejected": "2", "Credits": "2,750",
    }  # fmt: skip
    assert {name: PAGE.fact(name)[0] for name in expected} == expected
    assert PAGE.fact("Rounds") == ["3", "2 with a new model, 1 void, of 3 in the contract"]


def test_entries_are_counted_by_type() -> None:
    assert PAGE.table("Signed entries") == [
        ["approval", "6"], ["change", "3"], ["erasure", "1"], ["genesis", "1"], ["job", "1"],
        ["job-end", "1"], ["proof", "6"], ["refusal", "2"], ["result", "3"], ["All", "24"],
    ]  # fmt: skip
    assert "Erasures: 1." in PAGE.text


def test_institutions_stand_with_state_and_key_ids() -> None:
    rows = PAGE.table("Institutions, and the key ids")
    assert [(row[0], row[1], row[2]) for row in rows] == [
        *((f"hospital-{i}", f"Hospital-{i}", "in force") for i in range(1, 6)),
        ("coordinator", "", "proposes, never counts"),
    ]
    for row in rows[:-1]:
        assert row[3:] == [keys_of(row[0])[role].public.key_id for role in Role]
    coordinator = FOUR.coordinator
    ids = [coordinator[role].public.key_id for role in (Role.RECORD, Role.COSIGN)]
    assert rows[-1][3:] == [*ids, "", "", ""]
    assert PAGE.fact("Quorum") == ["4", "4 of 5 must co-sign a block to make it final"]
    assert "Up to 1 of 5 institutions may be dishonest (f = 1)" in PAGE.text
    assert PAGE.fact("Policy")[0].startswith("1,000 credits a round, of them 200 for verdicts")


def test_changes_stand_with_who_approved_them_and_when_they_took_effect() -> None:
    by = "hospital-1 (block 2), hospital-2 (block 2), hospital-4 (block 3)"
    founders = "founded by hospital-1, hospital-2, hospital-3, hospital-4"
    rows = PAGE.table("Foundation")
    assert [row[2] for row in rows if row[2].startswith("policy: 500 credits")]
    rows[2][2] = "another policy"
    assert rows == [
        ["0", "coordinator", founders, "all founders", "from block 0"],
        ["1", "hospital-1", "enrol hospital-5 (Hospital-5)", by, "from block 4"],
        ["1", "coordinator", "another policy", "hospital-2 (block 2), hospital-3 (block 3)",
         "lapsed: another change came first"],
        ["10", "coordinator", "remove hospital-5", "hospital-2 (block 10)",
         "open: 1 of 4 approvals"],
    ]  # fmt: skip


def test_what_is_said_to_be_in_effect_is_what_the_chain_says() -> None:
    [effect] = [row[4] for row in PAGE.table("Foundation") if row[2].startswith("enrol")]
    height = int(effect.removeprefix("from block "))
    before, after = LEDGER.blocks[height - 1].header, LEDGER.blocks[height].header
    assert "hospital-5" not in LEDGER.chain.in_force_at(before).members
    assert "hospital-5" in LEDGER.chain.in_force_at(after).members


def test_suspended_and_former_institutions_and_new_keys() -> None:
    ledger = Ledger()
    chain = ledger.chain
    new = keys_of("new keys of hospital-1")
    ledger.put(*decided(chain.upcoming, suspend("hospital-2"), remove("hospital-4")))
    ledger.put(
        *decided(
            chain.upcoming, rotate(chain.ledger, "hospital-1", FOUR.members["hospital-1"], new)
        )
    )
    page = ledger.page()
    rows = page.table("Institutions, and the key ids")
    assert [row[2] for row in rows[:-1]] == ["in force", "in force", "suspended", "former"]
    assert [row[0][-1] for row in rows[:-1]] == ["1", "3", "2", "4"]
    assert rows[0][3:] == [new[role].public.key_id for role in Role]
    assert rows[3][3] == FOUR.members["hospital-4"][Role.RECORD].public.key_id
    assert (page.fact("In force"), page.fact("Suspended"), page.fact("Former")) == (
        ["2"], ["1"], ["1"],
    )  # fmt: skip
    changes = [row[2] for row in page.table("Foundation")][1:]
    key = new[Role.RECORD].public.key_id
    assert changes == [
        "suspend hospital-2; remove hospital-4",
        f"new keys for hospital-1 (record key {key})",
    ]


def test_a_job_is_counted_by_institution() -> None:
    nothing = ["0", "0", "0"]
    assert PAGE.table("Proofs as the results") == [
        ["hospital-1", "1", "1", "1", "1", "NearCopy: 1", "", ""],
        ["hospital-2", "2", "0", "0", "0", "", "", ""],
        ["hospital-3", "1", "1", "0", "1", "Harmful: 1", "", "NoAnswer in verify: 1"],
        ["hospital-4", *nothing, "0", "", "BudgetExceeded: 1, PolicyRefused: 1",
         "BudgetExceeded in train: 1, NoAnswer in train: 1, PolicyRefused in train: 1"],
    ]  # fmt: skip
    assert PAGE.table("Participants") == [
        ["hospital-1", "100", "1", "0.00001", "0.901"],
        ["hospital-2", "101", "1", "0.00001", "0.800"],
        ["hospital-3", "102", "1", "0.00001", "0.500"],
        ["hospital-4", "103", "1", "0.00001", "no proof"],
    ]
    assert PAGE.fact("Status") == ["finished in block 8"]
    assert PAGE.fact("Model's hash") == ["55" * 32]
    assert PAGE.fact("Task's fingerprint") == ["ab" * 32]
    assert PAGE.fact("Tolerated") == [
        "a fall of 15 points of AUROC at another hospital, up to 90 more where noise is strong"
    ]
    assert PAGE.table("Jobs, ") == [
        ["job-1", "breast-cancer", "2", "1", "4", "2", "1", "2,750", "finished in block 8"]
    ]


@pytest.mark.parametrize("caption", ["Credits by institution", "Credits of this job"])
def test_credits_add_up_to_what_was_minted(caption: str) -> None:
    assert PAGE.table(caption) == [
        ["hospital-1", "500", "50", "100", "650", ""],
        ["hospital-2", "900", "100", "0", "1,000", ""],
        ["hospital-3", "100", "0", "1,000", "1,100", ""],
        *([["hospital-4", "0", "0", "0", "0", ""]]),
        ["All", "1,500", "150", "1,100", "2,750", ""],
    ]


def test_privacy_is_what_the_newest_proof_declares_by_cohort_rounded_up() -> None:
    assert PAGE.table("Spent so far") == [
        ["hospital-1", "c" * 12, "0.901", "0.00001", ""],
        ["hospital-2", "c" * 12, "0.500", "0.00001", ""],
        ["hospital-2", "d" * 12, "0.800", "0.0001", ""],
        ["hospital-3", "c" * 12, "0.500", "0.00001", ""],
    ]


def test_hospital_2_stands_before_hospital_10() -> None:
    ledger = Ledger(Consortium(11))
    numbers = [row[0].removeprefix("hospital-") for row in ledger.page().table("Institutions, and")]
    assert numbers[:-1] == [str(n) for n in range(1, 12)]


@pytest.mark.parametrize(
    ("exact", "shown"),
    [("0", "0.000"), ("1", "1.000"), ("0.001", "0.001"), ("0.0010000001", "0.002"),
     ("0.9999", "1.000"), ("999999999999.9991", "1,000,000,000,000.000")],
)  # fmt: skip
def test_rounding_never_says_less(exact: str, shown: str) -> None:
    assert markup.rounded_up(exact) == shown


def test_rounds_are_listed_one_by_one() -> None:
    assert PAGE.table("Rounds one by one, all of them") == [
        ["1", "5", "2", "1", "0", "1", "hospital-1", "900", ""],
        ["2", "6", "0", "0", "1", "2", "", "0", "void"],
        ["3", "7", "2", "1", "0", "1", "hospital-3", "1,850", ""],
    ]
    columns = [attributes for tag, attributes in PAGE.tags if tag == "svg"][-1]
    assert "rounds 1 to 3" in str(columns["aria-label"])


def test_an_attempt_that_is_repeated_is_no_round() -> None:
    ledger = Ledger()
    chain, put = ledger.chain, ledger.put
    put(job(chain, "job-1"))
    absent = [("hospital-3", "close", "NoAnswer"), ("hospital-4", "close", "NoAnswer")]
    put(result(chain, "job-1", 1, [], absent=absent, again=True))
    alone = ledger.page()
    assert alone.fact("Rounds") == [
        "0", "0 with a new model, 0 void, 1 tried again, of 3 in the contract",
    ]  # fmt: skip
    assert not [tag for tag, attributes in alone.tags if attributes.get("class") == "columns"]
    put(result(chain, "job-1", 1, [outcome("hospital-1", credits=1000)]))
    put(result(chain, "job-1", 2, []))
    page = ledger.page()
    assert page.fact("Rounds") == [
        "2", "1 with a new model, 1 void, 1 tried again, of 3 in the contract",
    ]  # fmt: skip
    assert [(row[0], row[-1]) for row in page.table("Rounds one by one, all of them")] == [
        ("1", "again"), ("1", ""), ("2", "void"),
    ]  # fmt: skip
    assert page.table("Jobs, the oldest first")[0][2:4] == ["1", "1"]
    assert "RevealDropped" in jobs.MEANINGS


def test_codes_are_explained() -> None:
    codes = ["Accepted", "BudgetExceeded", "Harmful", "NearCopy", "NoAnswer", "NoQuorum"]
    names = [name for name, _ in PAGE.facts]
    assert names[-7:] == [*codes, "PolicyRefused"]
    assert jobs.MEANINGS.keys() >= PROOF_CODES.keys()


# what it is honest about


def test_it_says_what_it_does_not_show() -> None:
    for sentence in (
        "compare it with the one your institution signed",
        "This page is a rendering; the signed entries count.",
        "consortium ledger verify",
        "that training used real patients, or that the declared noise was really added",
        "it is declared, and compared with what the contract costs",
        "Declared, not proved.",
        "times are the coordinator's",
    ):
        assert sentence in PAGE.text


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_it_says_how_many_witnesses_there_are(n: int) -> None:
    text = Ledger(Consortium(n)).page().text
    assert ("One institution: no independent witness." in text) == (n == 1)
    assert ("Byzantine tolerance begins at four institutions." in text) == (n in (2, 3))
    assert ("Up to 1 of 4 institutions may be dishonest" in text) == (n == 4)


def test_a_range_says_what_is_not_in_it() -> None:
    page = LEDGER.page(first=6)
    assert "begins at block 6: what came before is not in these numbers" in page.text
    assert "A range of the ledger" not in PAGE.text
    assert page.fact("Blocks") == ["6 to 10, a range"]
    assert "<title>Example: ledger report</title>" in page.source
    assert [row[0] for row in page.table("Institutions, and")][-2:] == ["hospital-5", "coordinator"]
    assert "Its contract stands before this range." in page.text
    assert page.table("Jobs, ") == [
        ["job-1", "before this range", "1", "1", "2", "1", "1", "1,850", "finished in block 8"]
    ]


def test_approvals_of_a_change_that_was_proposed_before_the_range() -> None:
    told = ["earlier", "", "proposed before this range"]
    assert LEDGER.page(first=3).table("Foundation")[:-1] == [
        [*told, "hospital-3 (block 3)", "lapsed: another change came first"],
        [*told, "hospital-4 (block 3)", "from block 4"],
    ]


def test_a_ledger_that_holds_its_foundation_only() -> None:
    page = Ledger().page()
    assert page.fact("Entries") == ["1"]
    for sentence in (
        "Jobs, the oldest first: none.",
        "Credits by institution, over all jobs: none.",
    ):
        assert sentence in page.text


def test_a_range_without_an_entry() -> None:
    page = Page(html(LEDGER.chain, Tally(), 10))
    assert (page.fact("First entry"), page.fact("Entries")) == (["none"], ["0"])


# parts, and bytes


@given(st.lists(st.integers(0, len(LEDGER.entries()))), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_parts_add_up_to_the_whole(cuts: list[int], random: Any) -> None:
    entries = LEDGER.entries()
    places = [0, *sorted(cuts), len(entries)]
    parts = [pickle.loads(pickle.dumps(tally_of(entries[a:b]))) for a, b in pairwise(places)]
    while len(parts) > 1:  # neighbours, in any order
        at = random.randrange(len(parts) - 1)
        parts[at].merge(parts.pop(at + 1))
    whole = LEDGER.tally()
    assert parts[0] == whole
    assert html(LEDGER.chain, parts[0], 0) == html(LEDGER.chain, whole, 0)


@given(st.integers(0, 30), st.integers(0, 30))
@settings(deadline=None)
def test_parts_add_up_where_rounds_are_no_longer_kept(a: int, b: int) -> None:
    rounds = [(LEDGER.blocks[5].header, entry(n)) for n in range(1, a + b + 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counted, "ROUNDS", 7)
        part, whole = tally_of(rounds[:a]), tally_of(rounds)
        part.merge(tally_of(rounds[a:]))
    assert part == whole
    assert len(whole.rounds) == min(7, a + b)


def entry(round: int) -> Entry:
    return result(LEDGER.chain, "job-1", round, [outcome("hospital-1", credits=1)])


def test_the_page_does_not_depend_on_how_the_chain_was_read() -> None:
    """An export is written by whoever resumed, and verified by whoever followed."""
    for last in range(1, len(LEDGER.blocks)):
        blocks = LEDGER.blocks[: last + 1]
        followed = Chain.begin(blocks[0])
        for block in blocks[1:]:
            followed.follow(block)
        changes = [
            entry
            for block in blocks
            for entry in block.entries
            if entry.record.type in ("change", "approval")
        ]
        resumed = Chain.resume(blocks[0].entries[0], changes, followed.header, followed.frontier)
        tally = tally_of((b.header, entry) for b in blocks for entry in b.entries)
        assert html(resumed, tally, 0) == html(followed, tally, 0)


SURROUNDINGS = (("1", "C", "UTC"), ("2", "de_DE.UTF-8", "Asia/Tokyo"), ("3", "C", "UTC"))


def pages() -> bytes:
    return b"".join(html(LEDGER.chain, LEDGER.tally(first), first) for first in (0, 2, 6))


def test_the_bytes_are_the_same_in_any_process_locale_and_zone() -> None:
    """Sets are ordered otherwise in every process; numbers and times in every locale."""
    code = "import sys, test_report as t; sys.stdout.buffer.write(t.pages())"
    made = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            env={**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": locale, "TZ": zone},
            capture_output=True,
            check=True,
        ).stdout
        for seed, locale, zone in SURROUNDINGS
    }
    assert made == {pages()}


def test_memory_grows_with_jobs_and_institutions_not_with_entries() -> None:
    header = LEDGER.blocks[5].header
    many = [*(e for _, e in LEDGER.entries(first=4)), *map(entry, range(1, 100))]
    many = [e for e in many if e.record.type not in ("change", "approval")]
    sizes = []
    tally = Tally()
    for turn in range(60):
        for each in many:
            tally.add(header, each)
        if turn in (20, 59):
            sizes.append(len(pickle.dumps(tally)))
    assert tally.types.total() == 60 * len(many)
    assert len(tally.rounds) == counted.ROUNDS
    assert sizes[1] < sizes[0] * 1.01


def test_only_so_many_rounds_and_jobs_are_shown_in_full() -> None:
    tally = tally_of((LEDGER.blocks[5].header, entry(n)) for n in range(1, counted.ROUNDS + 2))
    tally.jobs |= {f"job-{n}": None for n in range(2, page_of_it.JOBS + 2)}
    page = Page(html(LEDGER.chain, tally, 4))
    assert len(page.table("Jobs, ")) == page_of_it.JOBS + 1
    assert "The oldest, 1, are in this table only." in page.text
    assert "#job-1" not in [attributes.get("href") for _, attributes in page.tags]
    del tally.jobs["job-2"]
    page = Page(html(LEDGER.chain, tally, 4))
    rows = page.table(f"Rounds one by one, the newest {counted.ROUNDS} of {counted.ROUNDS + 1:,}")
    assert (len(rows), rows[0][0]) == (counted.ROUNDS, "2")


def test_a_time_that_no_calendar_has() -> None:
    chain = replace(LEDGER.chain, header=replace(LEDGER.chain.header, time=2**53 - 1))
    assert Page(html(chain, Tally(began=-(2**53) + 1), 0)).fact("Last block") == [
        f"{2**53 - 1} s after 1970"
    ]


# nothing can be slipped in


def test_whatever_is_not_markup_is_escaped() -> None:
    """The records' forms allow none of this; the page does not rely on them."""
    bad = "\"'><script>alert(1)</script><img src=x onerror=y>&amp;"
    contract = LEDGER.tally().jobs["job-1"]
    assert contract is not None
    tally = LEDGER.tally()
    assert tally.founded is not None
    tally.founded = tally.founded.model_copy(update={"consortium": bad})
    tally.types[bad] = 1
    tally.jobs[bad] = contract._replace(
        task=bad, fingerprint=bad, participants=((bad, 1, bad, bad),)
    )
    tally.ends[bad] = counted._End(3, bad, 3, bad)
    tally.counts |= {(bad, bad, what, bad): 1 for what in ("proofs", "refused", "absent")}
    tally.rounds.append(counted.Round(bad, 1, 1, 1, 0, 0, 0, bad, 1, False))
    tally.spent[bad, "cohort", bad] = "1", bad
    tally.proposals[bad] = counted.Proposal(1, bad, (bad,))
    tally.approvals.append(counted.Approved(bad, bad, 1, bad))
    page = Page(html(LEDGER.chain, tally, 0))
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in PAGE.tags}
    assert "onerror" not in {name for _, attributes in page.tags for name in attributes}
    assert page.text.count(bad) > 15
    assert "<script" not in page.source


def test_it_loads_nothing_and_runs_nothing() -> None:
    assert "default-src 'none'; style-src 'unsafe-inline'" in PAGE.source
    for tag, attributes in PAGE.tags:
        assert tag not in ("script", "link", "img", "iframe", "object", "form", "base")
        assert not {"src", "srcset", "action", "xlink:href"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
        assert str(attributes.get("href", "#")).startswith("#")
    assert not re.search(r"https?:|//|url\(|@import", PAGE.source)


def test_every_printed_page_says_of_which_ledger_it_is_and_its_number() -> None:
    style = PAGE.source.partition("<style>")[2].partition("</style>")[0]
    assert f'content: "MedPoLe ledger report, ledger {FOUR.ledger}"' in style
    assert 'content: "Page " counter(page) " of " counter(pages)' in style
    assert PAGE.text.index(FOUR.ledger) < PAGE.text.index("What this page shows")


def test_it_can_be_read_by_a_machine_that_reads_aloud() -> None:
    tags = [tag for tag, _ in PAGE.tags]
    assert ("html", {"lang": "en"}) in PAGE.tags
    assert (tags.count("h1"), tags.count("main"), tags.count("title")) == (1, 1, 1)
    assert tags.count("table") == tags.count("caption") == tags.count("thead") > 8
    heads = [attributes for tag, attributes in PAGE.tags if tag == "th"]
    assert {head["scope"] for head in heads} == {"col", "row"}
    for tag, attributes in PAGE.tags:
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or attributes.get("aria-label")
    ids = [attributes["id"] for _, attributes in PAGE.tags if "id" in attributes]
    links = [attributes["href"] for _, attributes in PAGE.tags if "href" in attributes]
    assert len(ids) == len(set(ids))
    assert {f"#{id}" for id in ids} >= set(links)
