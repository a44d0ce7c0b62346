"""The API over a real ledger: the recorded demo's, served for all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from served_demo import Served

from consortium.access import AccessTokens, Role
from consortium.api.app import create_app
from consortium.api.local import local_api
from consortium.local import open_ledger


@pytest.fixture(scope="session")
def served(demo_home: Path) -> Iterator[Served]:
    with open_ledger(demo_home) as (home, store), store.changes() as changes:
        app = create_app(store, home.content, home.models, home=home.path, changes=changes)
        with local_api(app) as client:
            token = AccessTokens(home.path).issue("Ada", Role.ADMIN)[1]
            client.headers["Authorization"] = f"Bearer {token}"
            yield Served(home, store, app, client)
