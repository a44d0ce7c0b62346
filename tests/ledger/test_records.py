import copy
from typing import Any, get_args

import pytest
from ledger_examples import Consortium

from ledger import canonical
from ledger.entry import Entry, sign_record
from ledger.errors import CanonicalInvalid, LedgerError, RecordInvalid, SignatureInvalid
from ledger.keys import Role
from ledger.records import Action, consent_message, parse_record, schemas

CONSORTIUM = Consortium(2)
D = "ab" * 32
PLACE = {"v": 1, "ledger": D, "author": "hospital-1", "job": "job-1", "round": 2, "attempt": 1}
OURS = {**PLACE, "author": "coordinator"}
TERMS = {
    "rounds": 10, "steps": 2, "sample_rate": "1", "noise_multiplier": "8.5", "clip": "1",
    "clipping": "automatic", "learning_rate": "1.4", "normaliser": 130, "epsilon": "1",
    "delta": "0.00001",
}  # fmt: skip
SPEND = {
    "cohort": "0" * 32, "steps": 2, "sample_rate": "1", "noise_multiplier": "8.5", "clip": "1",
    "normaliser": 130, "mu2_before": "0", "mu2_after": "0.0277", "epsilon": "0.6",
    "delta": "0.00001",
}  # fmt: skip
FINDING = {
    "institution": "hospital-2", "code": "Accepted", "score": 9800, "harmful": False,
    "shapley": -25,
}  # fmt: skip
MEASURES = {
    "auroc": 9800, "accuracy": 9400, "sensitivity": 8500, "specificity": None, "calibration": 200,
}  # fmt: skip
FOUNDING = CONSORTIUM.genesis.body()
MEMBER = FOUNDING["founders"][1]
SIGNATURE = "ef" * 64
LIMITS = {
    "false_alarm": "0.0001", "reach": "1", "residual_signal": "5", "opposition": "0.1",
    "drop": 1500, "drop_with_noise": 9000,
}  # fmt: skip
BODIES: list[dict[str, Any]] = [
    FOUNDING,
    {
        "v": 1, "type": "job", "ledger": D, "author": "coordinator", "job": "job-1",
        "task": "breast-cancer", "task_fingerprint": D, "rounds": 10, "seed": 0,
        "initial_model": D, "average_from": 6, "aggregation": "weighted-mean",
        "participants": [{"institution": "hospital-1", "weight": 130, "terms": TERMS}],
        "thresholds": LIMITS, "scores": {"kind": "banded"},
        "committee": 4,
        "durations": {"train": 600, "close": 60, "reveal": 120, "verify": 600},
    },
    {**PLACE, "type": "commitment", "base": D, "model": D, "commitment": D},
    {**PLACE, "type": "refusal", "code": "BudgetExceeded"},
    {**PLACE, "type": "close", "digest": D},
    {
        **PLACE, "type": "proof", "digest": D, "update": D, "vrf_proof": "cd" * 80, "salt": D,
        "spend": SPEND,
    },
    {**PLACE, "type": "verdict", "digest": D, "reveals": D, "findings": [FINDING]},
    {
        **OURS, "type": "result", "base": D, "digest": None, "model_before": D, "model_after": D,
        "void": False, "again": False,
        "proofs": [
            {"institution": "hospital-1", "code": "Accepted", "score": None, "shapley": 25,
             "average": -50, "credits": 700},
        ],
        "fees": [{"institution": "hospital-1", "credits": 200}],
        "absent": [{"institution": "hospital-2", "phase": "train", "code": "NoAnswer"}],
        "learner": None, "bonus": 0, "minted": 900,
    },
    {
        "v": 1, "type": "job-end", "ledger": D, "author": "coordinator", "job": "job-1",
        "status": "stopped", "rounds": 3, "model": D,
    },
    {
        "v": 1, "type": "change", "ledger": D, "author": "hospital-1", "base": D,
        "actions": [
            {"kind": "enrol", "member": MEMBER, "consent": SIGNATURE},
            {"kind": "rotate", "member": MEMBER, "consent": SIGNATURE,
             "consent_of_old": SIGNATURE},
            {"kind": "rotate-coordinator", "keys": FOUNDING["coordinator"],
             "consent": SIGNATURE, "consent_of_old": SIGNATURE},
            {"kind": "suspend", "institution": "hospital-1"},
            {"kind": "reinstate", "institution": "hospital-1"},
            {"kind": "remove", "institution": "hospital-2"},
            {"kind": "set-policy", "policy": FOUNDING["policy"]},
        ],
    },
    {
        "v": 1, "type": "approval", "ledger": D, "author": "hospital-1", "change": D,
        "approver": D,
    },
    {"v": 1, "type": "erasure", "ledger": D, "author": "hospital-1", "disclosure": D},
    {
        "v": 1, "type": "evaluation", "ledger": D, "author": "hospital-1", "job": "job-1",
        "model": D, "noised": False, "positives": 5, "negatives": 0,
        "federated": MEASURES, "calibrated": MEASURES, "alone": MEASURES, "majority": 6200,
        "gain": {"value": 1000, "low": -500, "high": 2000},
    },
]  # fmt: skip
IDS = [body["type"] for body in BODIES]


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every value of a body stands."""
    inner: list[tuple[Any, ...]] = []
    if isinstance(value, dict):
        inner = [p for key, item in value.items() for p in paths(item, (*here, key))]
    elif isinstance(value, list):
        inner = [p for at, item in enumerate(value) for p in paths(item, (*here, at))]
    return [here, *inner] if here else inner


def changed(body: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    other = copy.deepcopy(body)
    place = other
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return other


CHANGE, APPROVAL = (BODIES[IDS.index(type)] for type in ("change", "approval"))


def test_there_is_an_example_of_every_type() -> None:
    assert sorted(IDS) == sorted(schemas())


def test_there_is_an_example_of_every_action() -> None:
    kinds = [
        form.model_fields["kind"].annotation.__args__[0] for form in get_args(get_args(Action)[0])
    ]
    assert [action["kind"] for action in CHANGE["actions"]] == kinds


@pytest.mark.parametrize("body", BODIES, ids=IDS)
def test_every_type_round_trips_to_the_byte(body: dict[str, Any]) -> None:
    record = parse_record(canonical.loads(canonical.dumps(body)))
    assert canonical.dumps(record.body()) == canonical.dumps(body)


@pytest.mark.parametrize("body", BODIES, ids=IDS)
def test_an_unknown_or_missing_field_is_refused_at_every_level(body: dict[str, Any]) -> None:
    for path in [(), *(p for p in paths(body))]:
        value: Any = body
        for step in path:
            value = value[step]
        if isinstance(value, dict):
            with pytest.raises(RecordInvalid):
                parse_record(changed(body, (*path, "note"), "free text"))
            for name in () if set(value) <= set(Role) else value:
                other = copy.deepcopy(body)
                place: Any = other
                for step in path:
                    place = place[step]
                del place[name]
                with pytest.raises(RecordInvalid):
                    parse_record(other)


@pytest.mark.parametrize("body", BODIES, ids=IDS)
def test_no_field_takes_a_float_a_text_or_another_type(body: dict[str, Any]) -> None:
    for path in paths(body):
        for value in (1.5, True, -(10**20), "<b>free text</b>", "a\n", [1], {"a": 1}, b"x"):
            if path[-1] not in ("harmful", "void", "again", "noised") or value is not True:
                with pytest.raises(RecordInvalid):
                    parse_record(changed(body, path, value))


def test_the_refusal_names_the_field_and_never_the_value() -> None:
    with pytest.raises(RecordInvalid) as caught:
        parse_record({**BODIES[3], "code": "Mrs Miller, 1951"})
    assert "code" in caught.value.what
    assert "Miller" not in str(caught.value) + caught.value.resolve + repr(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("code", "accepted"), ("code", "A"), ("code", "Two words"), ("job", "Job"),
        ("job", "a/b"), ("job", ""), ("job", "a" * 41), ("round", 0), ("attempt", 0),
        ("round", "2"), ("ledger", D.upper()), ("ledger", D[:-1]), ("v", 2), ("type", "Refusal"),
        ("type", None), ("author", "a b"),
    ],
)  # fmt: skip
def test_a_value_outside_its_form_is_refused(field: str, value: Any) -> None:
    with pytest.raises(RecordInvalid):
        parse_record({**BODIES[3], field: value})


@pytest.mark.parametrize("text", ["1.0", "01", ".5", "1.", "-1", "+1", "1e3", "inf", "nan", "1,5"])
def test_a_decimal_has_one_spelling(text: str) -> None:
    with pytest.raises(RecordInvalid):
        parse_record(changed(BODIES[5], ("spend", "epsilon"), text))


@pytest.mark.parametrize(
    ("field", "value"), [("score", 10_001), ("shapley", 10_001), ("shapley", -10_001)]
)
def test_a_finding_lies_within_what_an_auroc_can_be(field: str, value: int) -> None:
    """Sums over a window would else leave the integers that a record may hold."""
    with pytest.raises(RecordInvalid):
        parse_record(changed(BODIES[6], ("findings", 0, field), value))


def test_credits_cannot_be_promised_beyond_the_pool() -> None:
    path = ("policy", "credits", "verdicts")
    parse_record(changed(BODIES[0], path, 900))
    with pytest.raises(RecordInvalid):
        parse_record(changed(BODIES[0], path, 901))


@pytest.mark.parametrize("count", [0, 101])
def test_a_change_has_actions_but_no_hundreds(count: int) -> None:
    action = CHANGE["actions"][-1]
    parse_record({**CHANGE, "actions": [action] * 100})
    with pytest.raises(RecordInvalid):
        parse_record({**CHANGE, "actions": [action] * count})


@pytest.mark.parametrize("text", ["", "ef" * 63, "ef" * 65, "EF" * 64, "zz" * 64])
def test_a_consent_is_a_signature_in_hex(text: str) -> None:
    for path in (("actions", 0, "consent"), ("actions", 1, "consent_of_old")):
        with pytest.raises(RecordInvalid):
            parse_record(changed(CHANGE, path, text))


@pytest.mark.parametrize("kind", ["found", "Enrol", "suspend", ""])
def test_an_action_of_another_kind_is_refused(kind: str) -> None:
    with pytest.raises(RecordInvalid):
        parse_record(changed(CHANGE, ("actions", 0, "kind"), kind))


def test_what_is_consented_to_names_the_ledger_and_all_of_the_form() -> None:
    """Every part that changes gives another message, and the order of keys is no part."""
    form, other = CONSORTIUM.genesis.founders
    keys = CONSORTIUM.genesis.coordinator
    roles = list(form.keys)
    forms: list[Any] = [
        form,
        form.model_copy(update={"id": other.id}),
        form.model_copy(update={"title": other.title}),
        form.model_copy(update={"possession": other.possession}),
        *(form.model_copy(update={"keys": {**form.keys, r: other.keys[r]}}) for r in roles),
        form.model_copy(update={"keys": {**form.keys, roles[0]: form.keys[roles[1]],
                                         roles[1]: form.keys[roles[0]]}}),
        keys,
        dict(zip(keys, reversed(keys.values()), strict=True)),
    ]  # fmt: skip
    messages = [consent_message(ledger, each) for ledger in (D, "cd" * 32) for each in forms]
    assert len(set(messages)) == len(messages) == 2 * (4 + len(Role) + 3)
    turned = form.model_copy(update={"keys": dict(reversed(form.keys.items()))})
    assert consent_message(D, turned) == consent_message(D, form)
    assert consent_message(D, dict(reversed(keys.items()))) == consent_message(D, keys)
    assert all(message.startswith(b"medpole/consent/v1\n") for message in messages)


@pytest.mark.parametrize("author", ["hospital-1", "coordinator2"])
def test_a_result_is_the_coordinators(author: str) -> None:
    with pytest.raises(RecordInvalid):
        parse_record({**BODIES[7], "author": author})


# entries


KEY = CONSORTIUM.members["hospital-1"][Role.RECORD]
ENTRY = CONSORTIUM.entry()


def rewritten(change) -> Entry:
    content = canonical.loads(ENTRY.data)
    change(content)
    return Entry(canonical.dumps(content))


def test_an_entry_is_read_from_its_original_bytes() -> None:
    again = Entry(ENTRY.data)
    again.verify([KEY.public])
    assert again.record == CONSORTIUM.refusal()
    assert again.leaf == ENTRY.leaf


@pytest.mark.parametrize("body", BODIES, ids=IDS)
@pytest.mark.parametrize("signers", [0, 1, 2])
def test_the_body_is_cut_out_of_the_entry_as_it_was_signed(
    body: dict[str, Any], signers: int
) -> None:
    keys = [ring[Role.RECORD] for ring in CONSORTIUM.members.values()][:signers]
    entry = sign_record(parse_record(body), keys)
    assert entry.body == canonical.dumps(body)
    assert entry.stored == entry.record
    assert [type for type in IDS if entry.names_type(type)] == [body["type"]]


def test_a_body_that_speaks_of_signatures_is_cut_out_whole() -> None:
    body = {
        "a": {"b": 1, "signatures": [{"c": 2, "signatures": 3}]},
        "signatures": '","signatures":',
    }
    content = {"body": body, "signatures": [{"alg": '","signatures":'}]}
    assert Entry(canonical.dumps(content)).body == canonical.dumps(body)


def test_bytes_that_are_not_canonical_are_refused() -> None:
    for data in (
        ENTRY.data + b"\n",
        ENTRY.data.replace(b'"body"', b' "body"'),
        ENTRY.data.replace(b'"attempt":1', b'"attempt":1,"attempt":1'),
        ENTRY.data.replace(b'"attempt":1', b'"attempt":1.0'),
    ):
        with pytest.raises(CanonicalInvalid):
            Entry(data).record  # noqa: B018


@pytest.mark.parametrize("content", [[], {}, {"body": {}}, {"body": {}, "signatures": [], "x": 1}])
def test_an_entry_of_another_form_is_refused(content: Any) -> None:
    with pytest.raises(RecordInvalid):
        Entry(canonical.dumps(content)).record  # noqa: B018


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["signatures"].clear(),
        lambda c: c["signatures"].append(c["signatures"][0]),
        lambda c: c["signatures"][0].update(alg="ed448"),
        lambda c: c["signatures"][0].update(key="0" * 16),
        lambda c: c["signatures"][0].update(sig=c["signatures"][0]["sig"].upper()),
        lambda c: c["signatures"][0].update(sig=c["signatures"][0]["sig"] + " "),
        lambda c: c["signatures"][0].update(sig="zz"),
        lambda c: c["signatures"][0].update(sig=7),
        lambda c: c["signatures"][0].update(note="x"),
        lambda c: c["signatures"][0].pop("key"),
        lambda c: c.update(signatures=None),
        lambda c: c.update(signatures={"alg": "ed25519"}),
        lambda c: c.update(signatures="ed25519"),
        lambda c: c.update(signatures=[1]),
        lambda c: c["body"].update(round=2),
    ],
)
def test_an_entry_carries_exactly_its_authors_signature(change) -> None:
    with pytest.raises(SignatureInvalid):
        rewritten(change).verify([KEY.public])


def test_a_key_id_of_digits_has_no_second_spelling() -> None:
    """As a JSON number it would be other bytes under the same signature."""

    class Digits:
        algorithm, key_id = "ed25519", "1234567890123456"

        @staticmethod
        def verify(signature: bytes, message: bytes) -> None:
            KEY.public.verify(signature, message)

    text = rewritten(lambda c: c["signatures"][0].update(key=Digits.key_id))
    text.verify([Digits])  # type: ignore[list-item]
    number = rewritten(lambda c: c["signatures"][0].update(key=int(Digits.key_id)))
    with pytest.raises(SignatureInvalid):
        number.verify([Digits])  # type: ignore[list-item]


def test_a_signature_in_another_domain_does_not_count() -> None:
    body = canonical.dumps(CONSORTIUM.refusal().body())
    for message in (body, b"medpole/record/v2\n" + body, b"medpole/export/v1\n" + body):
        entry = rewritten(lambda c, m=message: c["signatures"][0].update(sig=KEY.sign(m).hex()))
        with pytest.raises(SignatureInvalid):
            entry.verify([KEY.public])


def test_signatures_stand_in_the_order_of_the_authors() -> None:
    keys = [keys[Role.RECORD] for keys in CONSORTIUM.members.values()]
    entry = sign_record(CONSORTIUM.refusal(), keys)
    entry.verify([key.public for key in keys])
    with pytest.raises(LedgerError):
        entry.verify([key.public for key in reversed(keys)])
    with pytest.raises(LedgerError):
        entry.verify([keys[0].public])
