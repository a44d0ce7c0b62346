"""The report's page.

It depends on its arguments alone, neither on a clock nor on a locale: whoever verifies an export
makes the same bytes anew.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from importlib.resources import files

from ledger.chain import Chain
from ledger.keys import Role
from ledger.quorum import faulty
from ledger.records import KeyForm, MemberForm
from ledger.report.jobs import codes_section, credit_table, job_section, jobs_section
from ledger.report.markup import (
    Figure,
    Html,
    bar_of,
    facts_of,
    joined,
    natural_order,
    remark,
    rounded_up,
    section_of,
    table_of,
    tag_of,
    utc,
)
from ledger.report.tally import (
    Approved,
    Proposal,
    Sums,
    Tally,
    added_up,
    codes_of,
    key_id_of,
    outcomes_of,
    shares_of,
    sums_by_job,
)

FORM = 2  # of the page: raised with every change, for older exports hold older pages
JOBS = 100  # shown in full


_WHAT_IT_IS = Html("""<h2>What this page shows, and what it does not</h2>
<p class="note"><strong>This page is a rendering; the signed entries count.</strong> Nothing on it
proves itself. Whoever wants to know whether it is true runs, offline, on the export's folder
<code>consortium ledger verify FOLDER</code> <code>--genesis FINGERPRINT</code>. With
<code>--head NOTE</code> it shows too that nothing newer was cut off.</p>
<div class="sides"><div><h3>What that command checks</h3><ul>
<li>every signature on every entry, by the keys then in force
<li>that a quorum of the institutions co-signed every block, and that none is missing, changed or
moved
<li>that every change of the membership was approved by a quorum of the institutions
<li>that this page says what the signed entries say, byte by byte
</ul></div><div><h3>What nothing here proves</h3><ul>
<li>that training used real patients, or that the declared noise was really added
<li>that the privacy spent is true: it is declared, and compared with what the contract costs
<li>that scores and contributions are right: medians follow from the entries, the local values
behind them are attested by the institutions that signed them
<li>that nothing was left out before it was recorded; times are the coordinator's
<li>that what a quorum of the institutions agreed on is true: together they decide what is written
</ul></div></div>""")


def html(chain: Chain, tally: Tally, first: int) -> bytes:
    """The report: ``chain`` is the state after the last block, ``first`` the first height."""
    # Of a chain only what does not depend on how it was read: not who approved what before now.
    name = chain.upcoming.consortium
    style = files("ledger.report").joinpath("report.css").read_text("utf-8")
    style = style.replace("LEDGER", chain.ledger)  # at the foot of every printed page
    sums = sums_by_job(tally)
    head = joined(
        Html('<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="'),
        Html("default-src 'none'; style-src 'unsafe-inline'\">\n<meta name=\"viewport\" "),
        Html('content="width=device-width, initial-scale=1">\n<meta name="generator" content="'),
        Html(f'MedPoLe report, form {FORM}">\n'),
        tag_of("title", name, ": ledger report"), Html(f"\n<style>\n{style}</style>\n"),
    )  # fmt: skip
    shown = list(tally.jobs)[-JOBS:]
    body = joined(
        _top(name, chain, tally, first, sums), Html("\n<main>\n"), tag_of("section", _WHAT_IT_IS),
        _institutions(chain), _history(chain, tally), jobs_section(tally, sums, set(shown)),
        _credits(sums), _privacy(tally), *(job_section(job, tally, sums[job]) for job in shown),
        _entries(tally), codes_section(tally), Html("</main>\n"),
        tag_of(
            "footer", f"Blocks {first:,} to {chain.header.height:,} of ledger {chain.ledger}. ",
            f"The last block's hash: {chain.header.hash}. Times are in UTC.",
        ),
    )  # fmt: skip
    page = f'<html lang="en">\n<head>\n{head}</head>\n<body>\n{body}\n</body>\n</html>\n'
    return f"<!doctype html>\n{page}".encode()


def _top(
    name: str, chain: Chain, tally: Tally, first: int, sums: dict[str, dict[str, Sums]]
) -> Html:
    whole = added_up(part for parts in sums.values() for part in parts.values())
    rounds = codes_of(whole, "rounds")
    accepted, rejected, _ = outcomes_of(codes_of(whole, "proofs"))
    last, digits = chain.header.height, re.findall("." * 8, chain.ledger)
    facts: list[tuple[str, object]] = [
        ("Blocks", f"{first:,} to {last:,}" + (", a range" if first else ", from the genesis on")),
        ("First entry", "none" if tally.began is None else utc(tally.began)),
        ("Last block", utc(chain.header.time)),
    ]
    if tally.founded and tally.founded.continues:
        old = tally.founded.continues
        facts.append(("Goes on from", f"block {old.height:,} of ledger {old.ledger}"))
    return tag_of(
        "header",
        tag_of("p", "MedPoLe ledger report", class_="kind"), tag_of("h1", name),
        tag_of(
            "div",
            tag_of("p", "The ledger's fingerprint: compare it with the one "
                "your institution signed"),
            tag_of("code", *(joined(tag_of("span", part), Html("<wbr>")) for part in digits)),
            class_="fingerprint",
        ),
        "" if not first else remark(
            "A range of the ledger.", f" It begins at block {first:,}: what came before is not in "
            "these numbers. Who is a member follows "
            "from the whole ledger.",
        ),
        facts_of(*facts),
        facts_of(
            ("Entries", tally.types.total()), ("Institutions", len(chain.members)),
            ("Quorum", chain.upcoming.quorum), ("Jobs", len(tally.jobs)),
            ("Rounds", rounds["done"] + rounds["void"]), ("Proofs accepted", accepted),
            ("Proofs rejected", rejected.total()), ("Credits", whole["minted", "credits"]),
            class_="figures",
        ),
    )  # fmt: skip


def _institutions(chain: Chain) -> Html:
    now = chain.upcoming
    known: dict[str, MemberForm] = {}
    for membership in chain.memberships.values():
        known |= {**membership.members, **membership.suspended}
    states = dict.fromkeys(now.members, "in force") | dict.fromkeys(now.suspended, "suspended")
    former = sorted(known.keys() - states.keys(), key=natural_order)
    order = [
        *sorted(now.members, key=natural_order),
        *sorted(now.suspended, key=natural_order),
        *former,
    ]
    rows: list[Sequence[object]] = [
        (
            name, known[name].title, states.get(name, "former"),
            *(_key_id(known[name].keys, role) for role in Role),
        )
        for name in order
    ]  # fmt: skip
    keys = (_key_id(now.coordinator, role) for role in Role)
    rows.append(("coordinator", "", "proposes, never counts", *keys))
    n, f = len(now.members), faulty(len(now.members))
    if n == 1:
        witness = remark(
            "One institution: no independent witness.",
            " Its signatures show that it agrees with itself; nobody else has checked anything.",
        )
    elif f == 0:
        witness = remark(
            "Byzantine tolerance begins at four institutions.",
            f" With {n}, none may be dishonest: f = 0.",
        )
    else:
        said = f"Up to {f:,} of {n:,} institutions may be dishonest (f = {f:,})"
        witness = tag_of("p", said, " without two different final blocks at one height.")
    roles = (role.upper() if len(role) == 3 else role.capitalize() for role in Role)
    return section_of(
        "Institutions",
        witness,
        facts_of(
            ("After block", chain.header.height), ("In force", n),
            ("Quorum", f"{now.quorum:,} of {n:,} must co-sign a block to make it final"),
            ("Suspended", len(now.suspended)), ("Former", len(former)),
            ("Policy", shares_of(now.policy.credits)),
        ),
        table_of(
            "Institutions, and the key ids of their newest keys by role",
            ("Institution", "Name", "State", *roles), rows,
        ),
    )  # fmt: skip


def _key_id(keys: Mapping[Role, KeyForm], role: Role) -> Html:
    """A key id, in halves: on paper one stands below the other, for names need the room."""
    found = key_id_of(keys, role)
    return tag_of("code", *(tag_of("span", half) for half in (found[:8], found[8:]) if half))


def _history(chain: Chain, tally: Tally) -> Html:
    rows: list[Sequence[object]] = []
    if tally.founded:
        founders = ", ".join(member.id for member in tally.founded.founders)
        rows.append(("0", "coordinator", f"founded by {founders}", "all founders", "from block 0"))
    given: dict[str, list[Approved]] = {}
    for approved in tally.approvals:
        given.setdefault(approved.change, []).append(approved)
    # No approval follows the one that decides: whatever was approved last took effect.
    decided = {approved.base: approved.change for approved in tally.approvals}
    unknown = Proposal(-1, "", ("proposed before this range",))
    earlier = [digest for digest in given if digest not in tally.proposals]
    for digest in (*earlier, *tally.proposals):
        proposal, approvals = tally.proposals.get(digest, unknown), given.get(digest, [])
        waiting = chain.upcoming.proposed.get(digest)
        state = "lapsed: another change came first"
        if waiting is not None:
            state = f"open: {len(waiting.approved):,} of {chain.upcoming.quorum:,} approvals"
        elif approvals and decided[approvals[-1].base] == digest:
            state = f"from block {approvals[-1].height + 1:,}"
        by = (
            ", ".join(f"{a.author} (block\N{NO-BREAK SPACE}{a.height:,})" for a in approvals)
            or "nobody"
        )
        height = f"{proposal.height:,}" if proposal.height >= 0 else "earlier"
        rows.append((height, proposal.author, "; ".join(proposal.actions), by, state))
    return section_of(
        "How the membership changed",
        table_of(
            "Foundation, and proposed changes in their order. A change takes effect once people at "
            "a quorum of the institutions have approved it",
            ("Block", "Proposed by", "Change", "Approved by", "In effect"), rows,
        ),
    )  # fmt: skip


def _entries(tally: Tally) -> Html:
    rows = sorted(tally.types.items())
    return section_of(
        "Entries",
        table_of("Signed entries by type", ("Type", "Entries"), rows, tally.types.total()),
        tag_of(
            "p", f"Erasures: {tally.types['erasure']:,}. So often was erased what opened a salted "
            "digest, who a person was; the entries themselves stay.",
        ),
    )  # fmt: skip


def _credits(sums: dict[str, dict[str, Sums]]) -> Html:
    whole: dict[str, Sums] = {}
    for part in sums.values():
        for name, earned in part.items():
            whole.setdefault(name, Counter()).update(earned)
    return section_of("Credits", credit_table("Credits by institution, over all jobs", whole))


def _privacy(tally: Tally) -> Html:
    spent = {(n, c): told for (n, by, c), told in tally.spent.items() if by == "cohort"}
    most = max((Fraction(epsilon) for epsilon, _ in spent.values()), default=Fraction(0))
    rows = [
        (
            name, tag_of("code", cohort[:12]), rounded_up(epsilon), Figure(delta),
            bar_of([("one", Fraction(epsilon))], most),
        )
        for (name, cohort), (epsilon, delta) in sorted(
            spent.items(), key=lambda item: (natural_order(item[0][0]), item[0][1])
        )
    ]  # fmt: skip
    return section_of(
        "Privacy spent",
        tag_of(
            "p", "Epsilon bounds what updates and models tell about whether one patient's record "
            "was in training: less is better. Each institution declares it in its proofs, for all "
            "its jobs on a cohort, rejected proofs included. ",
            tag_of("strong", "Declared, not proved."), " A new cohort begins at nothing: where an "
            "institution has several, look at all of them.",
        ),
        table_of(
            "Spent so far, as the newest proof declares it (rounded up)",
            ("Institution", "Cohort", "Epsilon", "Delta", ""), rows,
        ),
    )  # fmt: skip
