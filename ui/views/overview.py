"""Overview: what runs at this moment, what needs somebody's attention, the newest jobs."""

import time
from collections.abc import Iterator

import streamlit as st

from ui.api_client import Json
from ui.attempts import opened, partly
from ui.figures import ENDED, running
from ui.markup import (
    Cell,
    Html,
    Tone,
    chip,
    html,
    icon,
    joined,
    link,
    metrics,
    mono,
    notice,
    put,
    small,
    table,
)
from ui.reader import Reader
from ui.views.job_choice import no_job, state_chip
from ui.words import STATES, count, left, when

LIVE_S = 1.5
NEWEST_JOBS = 10
_GRACE_S = 15
_PHASES = ("train", "close", "reveal", "verify", "co-sign")
_DOING = {
    "train": "training", "close": "closing the set", "reveal": "revealing",
    "verify": "checking the others", "co-sign": "co-signing", "final": "round done",
}  # fmt: skip
_DONE = {
    "train": "committed", "close": "closed", "reveal": "revealed", "verify": "verified",
    "co-sign": "verified", "final": "verified",
}  # fmt: skip
_STATES = {
    "late": ("late", Tone.WARN, "hourglass_bottom"), "gone": ("away", Tone.BAD, "cloud_off"),
    "back": ("back again", Tone.BUSY, "undo"), "here": ("there", Tone.GOOD, None),
    "co-signed": ("co-signed", Tone.GOOD, "draw"),
}  # fmt: skip


def show() -> None:
    """Draws the page."""
    reader = opened("Overview", "What the consortium is doing, and whether somebody must look.")
    head = reader.head
    put(
        metrics(
            [
                ("Consortium", reader.genesis["consortium"]),
                ("Members", head["members"], f"quorum {head['quorum']}"),
                ("Blocks", head["height"] + 1, f"newest {when(head['time'])} UTC"),
                ("Records", head["records"]),
            ]
        )
    )
    st.header("Under way")
    _live()
    st.header("Needs attention")
    found = list(attention(reader))
    if not found:
        put(chip("nothing does", Tone.GOOD), small("By what the newest jobs and blocks say."))
    put(*[notice(title, text, tone, symbol) for title, text, tone, symbol in found])
    st.header("Newest jobs")
    jobs = reader.jobs()
    if not jobs:
        no_job()
        return
    put(
        table(
            "The newest jobs",
            ("Job", "Task", "State", "Rounds", "Hospitals", "Epsilon", "Released model"),
            [_row(job) for job in jobs[:NEWEST_JOBS]],
            ("Rounds", "Hospitals", "Epsilon"),
        )
    )


@st.fragment(run_every=LIVE_S)
def _live() -> None:
    """The part that moves while a job runs, read and drawn anew by itself."""
    with partly():
        jobs = running(Reader.now().jobs_now())
        if not jobs:
            put(notice("No job is running.", "What starts shows here by itself.", symbol="bedtime"))
            return
        put(_job(jobs[0]))
        if len(jobs) > 1:
            waiting = ", ".join(str(job["job"]) for job in jobs[1:])
            put(small(f"After it, in this order: {waiting}."))


def _job(job: Json) -> Html:
    rounds, done, state = int(job["rounds"]), int(job["done"]), str(job["state"])
    now = "" if job["round"] is None else f"round {job['round']} of {rounds}"
    again = f", attempt {job['attempt']}" if (job["attempt"] or 1) > 1 else ""
    share = 100 * done / max(1, rounds)
    parts = [
        f'<section class="mp-job" aria-label="{html(job["job"])}"><header>'
        f"<b>{html(job['job'])}</b>{state_chip(state)}<span>{html(now + again)}</span>"
        f"<small>task {html(job['task'])}, epsilon up to {html(job['epsilon'])}</small></header>"
        f'<div class="mp-bar" role="progressbar" aria-valuemin="0" aria-valuemax="{rounds}" '
        f'aria-valuenow="{done}" aria-label="rounds done"><div style="width:{share:.1f}%"></div>'
        f"</div>{small(f'{done} of {rounds} rounds done.')}"
    ]
    if job["reason"] or state not in ("running", "submitted"):
        parts.append(
            notice(STATES.get(state, state), str(job["reason"]), Tone.WARN, "hourglass_top")
        )
    if job["phase"]:
        parts.append(_steps(str(job["phase"]), job["phase_ends"]))
    parts.append(_hospitals(job))
    return Html("".join(parts) + "</section>")


def _steps(phase: str, ends: int | None) -> Html:
    place = _PHASES.index(phase) if phase in _PHASES else len(_PHASES)
    steps = []
    for number, name in enumerate(_PHASES):
        kind, symbol = ("", "radio_button_unchecked")
        if number < place:
            kind, symbol = (' class="mp-past"', "check_circle")
        elif number == place:
            kind, symbol = (' class="mp-now" aria-current="step"', "progress_activity")
        steps.append(f"<li{kind}>{icon(symbol)}{html(name)}</li>")
    rest = ""
    if ends is not None and phase in _DOING:
        seconds = ends - time.time()
        rest = small(
            f"{_DOING[phase].capitalize()}: at most {left(seconds)} left, then whoever has not "
            "answered counts as absent."
            if seconds > -_GRACE_S
            else "This phase's time is over. If this stays, its coordinator is not running: start "
            "`consortium coordinator`, or the demo again."
        )
    return Html(f'<ol class="mp-steps">{"".join(steps)}</ol>{rest}')


def _hospitals(job: Json) -> Html:
    states, absent = job["institutions"], job["absent"]
    cards = []
    for name in job["participants"]:
        before = f"{small(f'last attempt: {absent[name]}')}" if name in absent else ""
        if name in job["left_out"]:
            before += small("left out of the model: its last proof was called harmful")
        cards.append(
            f"<div><b>{html(name)}</b>{_doing(states.get(name, ''), job['phase'])}{before}</div>"
        )
    return Html(f'<div class="mp-hospitals">{"".join(cards)}</div>')


def _doing(state: str, phase: str) -> Html:
    if state == "asked":
        return chip(_DOING.get(phase, phase), Tone.BUSY)
    if state == "answered":
        return chip(_DONE.get(phase, "answered"), Tone.GOOD)
    if state in _STATES:
        return chip(*_STATES[state])
    return chip(state, Tone.WARN) if state else chip("not asked yet", Tone.QUIET)


def _row(job: Json) -> tuple[Cell, ...]:
    name = str(job["job"])
    return (
        link(name, f"/models?job={name}"),
        job["task"],
        state_chip(job["state"]),
        f"{job['done']} of {job['rounds']}",
        len(job["participants"]),
        str(job["epsilon"]),
        mono(job["model"], 12) if job["model"] else None,
    )


def attention(reader: Reader) -> Iterator[tuple[str, Html | str, Tone, str]]:
    """What somebody should look at, from the membership and the newest jobs."""
    for proposed in reader.membership["proposed"]:
        yield (
            "A change of the membership waits for approvals.",
            joined(
                f"{count(len(proposed['approved']), 'approval')} so far, "
                f"{reader.membership['quorum']} are needed. ",
                link("See Institutions", "/institutions"),
            ),
            Tone.WARN,
            "how_to_vote",
        )
    for conflict in reader.conflicts:
        yield (
            "One key signed twice.",
            f"A member's key co-signed block {conflict['height']:,} a second time: its agent runs "
            "twice, or somebody else has its key. Both agents stop by themselves.",
            Tone.BAD,
            "content_copy",
        )
    for job in reader.jobs()[:NEWEST_JOBS]:
        yield from _of_job(job)


def _of_job(job: Json) -> Iterator[tuple[str, Html | str, Tone, str]]:
    name = str(job["job"])
    why = link("See Contributors for whose and why", f"/contributors?job={name}")
    if job["state"] in ("paused", "waiting", "reconnecting"):
        yield (f"{name} is {job['state']}.", f"{job['reason']}. {STATES[job['state']]}", Tone.WARN,
               "pause_circle")  # fmt: skip
    if job["state"] == "stopped":
        yield (f"{name} was stopped", f"after {job['done']} of {count(job['rounds'], 'round')}.",
               Tone.WARN, "stop_circle")  # fmt: skip
    if job["left_out"]:
        yield (f"{name}: {', '.join(job['left_out'])}: left out of the model.",
               joined("Its last proof was called harmful; what it taught before is out too. ", why),
               Tone.WARN, "person_remove")  # fmt: skip
    troubles = [
        count(job["rejected"], "proof") + " rejected" if job["rejected"] else "",
        count(job["absences"], "answer") + " missing" if job["absences"] else "",
        count(job["void"], "round") + " void, so that the model stayed as it was"
        if job["void"] else "",
        count(job["repeated"], "attempt") + " repeated, for too few took part"
        if job["repeated"] else "",
    ]  # fmt: skip
    if said := ", ".join(filter(None, troubles)):
        tone = Tone.QUIET if job["state"] in ENDED else Tone.WARN
        yield f"{name}:", joined(f"{said}. ", why), tone, "rule"
