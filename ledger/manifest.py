"""What an export folder consists of, and the exporter's signature over it.

| file | holds |
|---|---|
| ``entries.jsonl`` | every entry's original bytes, one a line, in ledger order |
| ``blocks.jsonl`` | every block's header, signed checkpoint, parent's certificate, cosignatures |
| ``start.json`` | where the export does not begin with the genesis: what it goes on from |
| ``entries.csv``, ``report.html`` | renderings to read; the entries themselves are what counts |
| ``disclosures.jsonl`` | what opens the ledger's salted digests, and is not erased |
| ``schemas.json`` | JSON Schema of every record type |
| ``content/``, ``models/`` | with ``--content``: updates and models, by digest |
| ``manifest.json`` | canonical: ledger, range, completeness, SHA-256 and size of each file |
| ``manifest.sig`` | the exporter's signature over the manifest |
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ledger import canonical
from ledger.errors import CanonicalInvalid, ExportInvalid, LedgerError
from ledger.keys import PublicKey, SecretKey

DOMAIN = b"medpole/export/v1\n"
FILES = (
    "entries.jsonl", "blocks.jsonl", "entries.csv", "report.html", "disclosures.jsonl",
    "schemas.json",
)  # fmt: skip
START = "start.json"
OWN = ("manifest.json", "manifest.sig")
FOLDERS = ("content", "models")
_BY_DIGEST = re.compile(rf"(?:{'|'.join(FOLDERS)})/[0-9a-f]{{64}}")
_TYPES = {
    "ledger": str, "exporter": str, "first_height": int, "last_height": int, "entries": int,
    "complete": str, "files": dict,
}  # fmt: skip


@dataclass(frozen=True)
class FileDigest:
    """SHA-256 in hex, and size in bytes."""

    sha256: str
    bytes: int

    @staticmethod
    def of(path: Path) -> "FileDigest":
        """Of a file, read once, a piece at a time."""
        hasher, size = sha256(), 0
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                hasher.update(part)
                size += len(part)
        return FileDigest(hasher.hexdigest(), size)


@dataclass(frozen=True)
class Manifest:
    """What an export says of itself. ``complete`` is a sentence."""

    ledger: str
    exporter: str
    first_height: int
    last_height: int
    entries: int
    complete: str
    files: Mapping[str, FileDigest]

    def data(self) -> bytes:
        """Canonical bytes."""
        files = {name: found.__dict__ for name, found in self.files.items()}
        return canonical.dumps({"v": 1, "type": "export", **self.__dict__, "files": files})

    @staticmethod
    def parse(data: bytes) -> "Manifest":
        """Reads a manifest.

        Raises:
            ExportInvalid: if it is not of exactly this form.
        """
        try:
            content: Any = canonical.loads(data)
            version, kind = content.pop("v"), content.pop("type")
            files = {str(name): FileDigest(**found) for name, found in content["files"].items()}
            manifest = Manifest(**{**content, "files": files})
            known = (
                (version, kind) == (1, "export")
                and manifest.data() == data
                and {name: type(value) for name, value in content.items()} == _TYPES
            )
        except (CanonicalInvalid, AttributeError, TypeError, KeyError):
            known = False
        if not known:
            raise invalid("manifest.json: malformed")
        return manifest

    def sign(self, key: SecretKey) -> bytes:
        """The content of ``manifest.sig``."""
        signature = key.sign(DOMAIN + self.data()).hex()
        return canonical.dumps(
            {"alg": key.public.algorithm, "key": key.public.key_id, "sig": signature}
        )


def check_signature(manifest: Manifest, signature: bytes, key: PublicKey) -> None:
    """Checks the content of ``manifest.sig``.

    Raises:
        ExportInvalid: if it is no signature over the manifest by ``key``.
    """
    try:
        content: Any = canonical.loads(signature)
        if (content["alg"], content["key"]) != (key.algorithm, key.key_id) or len(content) != 3:
            raise invalid("manifest.sig: not a signature by the exporter's record key")
        value = bytes.fromhex(content["sig"])
        if value.hex() != content["sig"]:
            raise invalid("manifest.sig: not in its one exact form")
    except CanonicalInvalid as error:
        raise invalid(f"manifest.sig: {error.what}") from None
    except (TypeError, KeyError, ValueError):
        raise invalid("manifest.sig: malformed") from None
    try:
        key.verify(value, DOMAIN + manifest.data())
    except LedgerError:
        raise invalid("manifest.json: the exporter's signature over it does not hold") from None


def files_in(folder: Path) -> set[str]:
    """Names of all files of an export but the manifest's own, as the manifest lists them.

    Raises:
        ExportInvalid: for what belongs to no export, and for what is missing.
    """
    found: set[str] = set()
    for path in folder.iterdir():
        if path.name in FOLDERS and path.is_dir() and not path.is_symlink():
            for item in path.iterdir():
                if not item.is_file() or item.is_symlink():
                    raise invalid(f"{path.name}/{item.name[:70]!r} is not a file")
                found.add(f"{path.name}/{item.name}")
        elif path.name in {*FILES, START, *OWN}:
            if not path.is_file():
                raise invalid(f"{path.name} is not a file")
            found.add(path.name)
        else:
            raise invalid(f"{path.name[:60]!r} does not belong to an export")
    for name in sorted({*FILES, *OWN} - found):
        raise invalid(f"{name} is missing")
    return found - {*OWN}


def belongs(name: str) -> bool:
    """Whether an export may hold a file of this name."""
    return name in (*FILES, START, *OWN) or _BY_DIGEST.fullmatch(name) is not None


def invalid(what: str) -> ExportInvalid:
    """An export that is not what was exported."""
    return ExportInvalid(
        what, "ask for the original export; a changed one cannot be repaired, only replaced"
    )
