"""Requests made up from the API's own description, good and bad ones, in every role.

All of schemathesis' checks: no fault of the server, no answer that is not described, nothing good
refused, nothing bad taken, nobody let in without a token.
"""

import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from served_demo import Served

from consortium.access import AccessTokens, Role
from consortium.api.app import create_app
from consortium.api.tokens import sign_token
from consortium.home import Home
from consortium.portal import _loopback_api
from hospital_agent.folder import HospitalFolder
from ledger import keys

ENDLESS = {"/v1/events"}
FIXED: dict[str, dict[str, Any]] = {"/v1/ledger/changes": {"query": {"seconds": 0}}}
# A rule of the ledger may refuse what has the right form (400), and a body may be too long (413).
TAKEN = ["2xx", "304", "400", "401", "403", "404", "409"]
REFUSED = ["400", "401", "403", "404", "409", "413", "422"]
Ask = Callable[[Case, Role], None]


@pytest.fixture
def home(served: Served, tmp_path: Path) -> Home:
    """One of its own: what is written goes there."""
    own = served.home.path / "coordinator" / "keys"
    shutil.copytree(own, tmp_path / "coordinator" / "keys")
    return Home(tmp_path)


@pytest.fixture
def described(served: Served, home: Home) -> Iterator[tuple[Any, Ask]]:
    """The description, and how a made-up request is sent to the running API."""
    store = served.store
    with store.changes() as changes:
        app = create_app(
            store, served.home.content, served.home.models, home=home.path, changes=changes
        )
        people = {
            role: AccessTokens(home.path).issue("Ada", role)[1]
            for role in Role if role is not Role.INSTITUTION
        }  # fmt: skip
        member, ledger = sorted(store.chain().members)[0], store.chain().ledger
        key = HospitalFolder(served.home.hospital(member)).keys[keys.Role.API]
        schema = schemathesis.openapi.from_dict(app.openapi())
        schema.config.checks.positive_data_acceptance.expected_statuses = TAKEN
        schema.config.checks.negative_data_rejection.expected_statuses = REFUSED
        with _loopback_api(app) as url, requests.Session() as session:

            def ask(case: Case, role: Role) -> None:
                token = people.get(role) or sign_token(member, ledger, key)
                headers = {"Authorization": f"Bearer {token}"}
                case.call_and_validate(url, session, headers, timeout=30)

            yield schema, ask


@pytest.mark.parametrize("cases", [300, pytest.param(5_000, marks=pytest.mark.slow)])
def test_the_api_is_what_it_says_of_itself(described: tuple[Any, Ask], cases: int) -> None:
    schema, ask = described
    operations = [found.ok() for found in schema.get_all_operations()]
    asked: Counter[str] = Counter()
    each = math.ceil(cases / len(operations) / 1.8)  # some take nothing that could be wrong
    for operation in operations:
        for mode in GenerationMode:
            if operation.path not in ENDLESS:
                asked[operation.label] += _check(operation, mode, each, ask)
    assert sum(asked.values()) >= cases
    assert {operation.label for operation in operations if operation.path not in ENDLESS} == {
        label for label, count in asked.items() if count
    }


def _check(operation: Any, mode: GenerationMode, each: int, ask: Ask) -> int:
    """Sends so many requests of one kind; how many there were."""
    asked = 0
    made_up = operation.as_strategy(generation_mode=mode, **FIXED.get(operation.path, {}))

    @given(case=made_up, role=st.sampled_from(list(Role)))
    @settings(
        max_examples=each, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @seed(1)
    def check(case: Case, role: Role) -> None:
        nonlocal asked
        # An empty list in a query is the same as none: not wrong, as the generator believes.
        assume([] not in (case.query or {}).values() and {} not in (case.query or {}).values())
        asked += 1
        ask(case, role)

    try:
        check()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, operation.label  # it takes nothing
    return asked
