"""The API over a real ledger: the recorded demo's, served for all tests of this folder."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from served_demo import Served
from troubled import Troubled, listening, socket_url

from consortium.access import AccessTokens, Role
from consortium.api.app import create_app
from consortium.api.local import local_api
from consortium.client import Consortium
from consortium.local import open_ledger


@pytest.fixture(scope="session")
def served(demo_home: Path) -> Iterator[Served]:
    with open_ledger(demo_home) as (home, store), store.changes() as changes:
        app = create_app(store, home.content, home.models, home=home.path, changes=changes)
        with local_api(app) as client:
            token = AccessTokens(home.path).issue("Ada", Role.ADMIN)[1]
            client.headers["Authorization"] = f"Bearer {token}"
            yield Served(home, store, app, client)


# the Python client's


@pytest.fixture(scope="module")
def troubled(served: Served) -> Troubled:
    """The API with trouble before it, where a test wants some."""
    return Troubled(served.app)


@pytest.fixture(autouse=True)
def _calm(request: pytest.FixtureRequest) -> None:
    """No test's trouble is another one's."""
    if "troubled" in request.fixturenames:
        request.getfixturevalue("troubled").clear()


@pytest.fixture(scope="module")
def socket(troubled: Troubled) -> Iterator[str]:
    """The URL of a Unix socket."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "api.sock"
        with listening(troubled, uds=str(path)):
            yield socket_url(path)


@pytest.fixture(scope="module")
def token(served: Served) -> str:
    return served.token(Role.SCIENTIST)


@pytest.fixture(scope="module")
def genesis(served: Served) -> str:
    return served.store.chain().ledger


@pytest.fixture
def consortium(socket: str, token: str, genesis: str) -> Iterator[Consortium]:
    with Consortium(socket, token, genesis=genesis) as client:
        yield client


@pytest.fixture(scope="module")
def model(served: Served) -> str:
    """The hash of what the job released."""
    return str(served.client.get("/v1/jobs/breast-cancer-1").json()["job"]["model"])
