"""The example in docs/client.md and the notebook, run on a served ledger with a finished job."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served_demo import Served
from troubled import listening

from consortium import client
from consortium.access import Role
from ledger.content import model_hash

DOCS = Path(__file__).parents[2] / "docs"
NOTEBOOK = DOCS / "notebooks" / "quickstart.ipynb"


@pytest.fixture
def url(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of the API; the rest of what an example needs stands in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDPOLE_TOKEN", served.token(Role.SCIENTIST))
    monkeypatch.setenv("MEDPOLE_GENESIS", served.store.chain().ledger)
    with listening(served.app) as port:
        url = f"http://127.0.0.1:{port}"
        monkeypatch.setenv("MEDPOLE_URL", url)
        yield url


def run(code: str, **known: Any) -> dict[str, Any]:
    space: dict[str, Any] = dict(known)
    exec(compile(code, "example", "exec"), space)
    return space


def downloaded() -> str:
    from consortium.weights import from_bytes

    return model_hash(from_bytes(Path("model.safetensors").read_bytes()))


def test_the_example_runs(url: str, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    [code] = re.findall(r"```python\n(.*?)```", (DOCS / "client.md").read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 10
    run(code, URL=url, FINGERPRINT=served.store.chain().ledger)
    printed = capsys.readouterr().out
    assert "1 hospital-1 Accepted" in printed
    assert "NearCopy" in printed
    assert re.search(r"co-signed by hospital-\d hospital-\d hospital-\d", printed)
    assert "Linear(in_features=30" in printed
    assert served.home.models.path(downloaded()).exists()


def test_the_notebook_runs(url: str, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 4)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all((cell["outputs"], cell["execution_count"]) == ([], None) for cell in cells)
    space = run("\n".join("".join(cell["source"]) for cell in cells))
    assert list(space["jobs"]["state"]) == ["finished"]
    assert len(space["chart"].to_dict()["datasets"].popitem()[1]) == len(space["scored"])
    assert 0.85 < space["accuracy"] <= 1
    assert space["released"].model == downloaded()
    assert "co-signed by hospital-1, hospital-2" in capsys.readouterr().out


def test_every_method_is_listed() -> None:
    text = (DOCS / "client.md").read_text()
    rows = re.findall(r"^\| `(?:Consortium|\.\w+)[^`]*` \|(.*)\|$", text, re.MULTILINE)
    listed = set(re.findall(r"`(\w+)`", "".join(rows)))
    one = client.Consortium("https://consortium.example", "x")
    things = (one, one.job("x"), one.model("x"), one.ledger)
    public = {name for thing in things for name in dir(thing) if not name.startswith("_")}
    assert listed == public - {"close", "ledger", "job", "model", "id", "hash"}
    assert all(f"`{name}`" in text for name in client.__all__ if name[0] in "FINTU")
