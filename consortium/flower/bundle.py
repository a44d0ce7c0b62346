"""The app bundle (FAB) of a run: no code, only a statement of which installed code both sides run.

Flower sends a bundle from the coordinator to every node, and stock nodes install and run it. Ours
holds Flower's own description of the app and a digest of the modules on which a round's outcome
depends. A hospital builds the same bundle from its own installation and refuses a run whose bundle
differs in a single byte; nothing that arrives is ever installed.

Stored, not compressed: two builds of zlib may compress alike code to other bytes.
"""

import zipfile
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

_DATE = (2024, 1, 1, 0, 0, 0)
_MODULES = (
    "sml",
    "privacy",
    "consortium.rounds",
    "consortium.tasks",
    "consortium.contract",
    "consortium.phases",
    "consortium.weights",
)
_DESCRIPTION = """\
[project]
name = "medpole"
version = "{version}"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "medpole"

[tool.flwr.app.components]
serverapp = "consortium.coordinator.server_app:app"
clientapp = "hospital_agent.client_app:app"

[tool.flwr.app.config]
"""


@cache
def app_bundle() -> bytes:
    """The bundle of this installation."""
    description = _DESCRIPTION.format(version=version("medpole")).encode()
    files = {"pyproject.toml": description, "CODE": code_digest().encode() + b"\n"}
    listed = "\n".join(
        f"{name},{sha256(data).hexdigest()},{len(data) * 8}" for name, data in files.items()
    )
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as bundle:
        for name, data in {**files, ".info/CONTENT": listed.encode()}.items():
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system = 3  # the same on every platform
            bundle.writestr(info, data)
    return buffer.getvalue()


def bundle_hash(bundle: bytes) -> str:
    """SHA-256 of a bundle's bytes, as Flower names it."""
    return sha256(bundle).hexdigest()


def code_digest() -> str:
    """SHA-256 over the names and bytes of all modules on which a round's outcome depends."""
    total = sha256()
    for name, path in sorted(_sources()):
        total.update(f"{name}\n{sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _sources() -> list[tuple[str, Path]]:
    found = []
    for module in _MODULES:
        spec = find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        origin = Path(spec.origin)
        if spec.submodule_search_locations is None:
            found.append((module, origin))
        else:
            folder = origin.parent
            found += [
                (f"{module}/{path.relative_to(folder).as_posix()}", path)
                for path in folder.rglob("*.py")
            ]
    return found
