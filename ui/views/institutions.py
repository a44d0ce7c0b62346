"""Institutions: who is a member, with which keys, when last heard of, and what is to change."""

import time

import streamlit as st

from ui.api_client import Json
from ui.attempts import opened
from ui.downloads import ACCESS_LOG
from ui.markup import (
    Cell,
    Html,
    Tone,
    bullets,
    chip,
    download,
    html,
    joined,
    metrics,
    mono,
    notice,
    put,
    small,
    table,
)
from ui.reader import Reader
from ui.words import ACCESS_LOG_FOR, NO_ACCESS_LOG, ago, count, when

_DAY_S = 86_400
_ROLES = {
    "record": "signs its records", "cosign": "co-signs blocks", "vrf": "draws its mapping",
    "api": "opens the API", "approval": "a person's, decides on members",
}  # fmt: skip


def show() -> None:
    """Draws the page."""
    reader = opened("Institutions", "Who signs here, with which keys, and who was heard of when.")
    found, now = reader.institutions(), time.time()
    membership = reader.membership
    members = [one for one in found if one["status"] == "member"]
    put(
        metrics(
            [
                ("Members", len(members)),
                ("Suspended", len(found) - len(members)),
                ("Quorum", membership["quorum"], "cosignatures make a block final"),
                ("Proposed changes", len(membership["proposed"])),
            ]
        )
    )
    st.header("Members")
    put(
        table(
            "Institutions",
            ("Institution", "State", "Joined", "Last co-signed", "Last seen", "Agent", "Keys"),
            [_row(one, reader.head, now) for one in found],
        ),
        small(
            "Last co-signed: the newest block that carries its cosignature. Last seen: its last "
            "request to the API, to the minute; in a simulation hospitals ask without a network. "
            "Keys: the age of the oldest in force."
        ),
    )
    _keys(found, now)
    _proposed(membership)
    _access_log(reader)


def _row(one: Json, head: Json, now: float) -> tuple[Cell, ...]:
    member = one["status"] == "member"
    state = chip("member", Tone.GOOD) if member else chip("suspended", Tone.WARN, "block")
    seen = one["last_seen"]
    return (
        joined(Html("<b>"), one["title"], Html("</b><br>"), mono(one["id"])),
        state,
        f"block {one['joined']['height']:,}, {when(one['joined']['time'])[:10]}",
        _cosigned(one["last_cosigned"], head, now),
        ago(now - seen["time"]) if seen else "not over the network",
        seen["version"] if seen else None,
        _age(min(key["since"]["time"] for key in one["keys"]), now),
    )


def _cosigned(place: Json | None, head: Json, now: float) -> Cell:
    if place is None:
        return chip("never", Tone.WARN)
    behind = head["height"] - place["height"]
    if behind <= 0:
        return joined(chip("newest block", Tone.GOOD, "draw"), Html("<br>"), _when(place, now))
    late = chip(f"{count(behind, 'block')} behind", Tone.WARN, "schedule")
    return joined(late, Html("<br>"), _when(place, now))


def _when(place: Json, now: float) -> Html:
    return Html(f'<span title="{when(place["time"])} UTC">{html(ago(now - place["time"]))}</span>')


def _age(since: int, now: float) -> str:
    days = int((now - since) // _DAY_S)
    return count(days, "day") if days > 0 else "less than a day"


def _keys(found: list[Json], now: float) -> None:
    with st.expander("All keys in force"):
        put(
            table(
                "Keys",
                ("Institution", "Key", "What it does", "Public key", "In force since", "Age"),
                [
                    (
                        one["id"],
                        key["role"],
                        _ROLES.get(key["role"]),
                        mono(key["public"], 16),
                        f"block {key['since']['height']:,}",
                        _age(key["since"]["time"], now),
                    )
                    for one in found
                    for key in one["keys"]
                ],
            ),
            small("A hospital renews its keys with `hospital-agent keys rotate`."),
        )


def _proposed(membership: Json) -> None:
    st.header("Proposed changes")
    if not membership["proposed"]:
        put(
            notice(
                "Nothing is proposed.",
                "Enrolments, suspensions, new keys and other policies show here until a quorum of "
                "members has approved them.",
            )
        )
        return
    for proposed in membership["proposed"]:
        approved = proposed["approved"]
        put(
            notice(
                "",
                joined(
                    Html("<b>Change "),
                    mono(proposed["change"], 16),
                    Html("</b>"),
                    bullets(described(action) for action in proposed["record"]["actions"]),
                    f"Approved by {len(approved)} of {membership['quorum']} needed: "
                    f"{', '.join(approved) or 'nobody yet'}. To approve: ",
                    mono(f"hospital-agent members approve {proposed['change'][:16]} --as NAME"),
                ),
                Tone.WARN,
                "how_to_vote",
            )
        )


def described(action: Json) -> str:
    """One action of a change in words."""
    member = action.get("member", {})
    who = member.get("id") or action.get("institution", "")
    words = {
        "enrol": f"enrol {who}, {member.get('title', '')}",
        "rotate": f"give {who} new keys",
        "rotate-coordinator": "give the coordinator new keys",
        "suspend": f"suspend {who}",
        "reinstate": f"reinstate {who}",
        "remove": f"remove {who} for good",
        "set-policy": "change how a round's credits are split",
    }
    return words.get(str(action["kind"]), str(action["kind"]))


def _access_log(reader: Reader) -> None:
    st.header("Who asked the API for what")
    if reader.me["role"] in ACCESS_LOG_FOR:
        put(
            download("Access log (JSON lines)", ACCESS_LOG),
            small("Names, routes, times; no token and nothing that was asked for by name."),
        )
    else:
        put(notice("Access log:", NO_ACCESS_LOG, symbol="lock"))
