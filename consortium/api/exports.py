"""The API for auditors: an export as a stream, and the verifier that trusts none of this.

An export is written to a private folder in the home first: the database is read once, at its own
pace, however slowly somebody downloads. The folder is gone with the request, also where the
caller goes away; what a killed process left is removed a day later.
"""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from consortium.api.caching import tagged
from consortium.api.callers import Permission
from consortium.api.ledger import HIGHEST
from consortium.errors import ExportsBusy
from consortium.home import Home
from ledger.archive import archive, archive_size
from ledger.export import export_ledger
from ledger.keys import Role
from ledger.records import COORDINATOR
from ledger.store import LedgerStore

AT_ONCE = 2
_LEFT_OVER_S = 86_400
_TAR: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}}}
}
_PYTHON: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/x-python": {"schema": {"type": "string"}}}}
}


def exports_router(store: LedgerStore, home: Path, dependency: Permission) -> APIRouter:
    """The routes; ``dependency`` lets in whom they are for, ``home`` is the coordinator's."""
    router = APIRouter(prefix="/v1/ledger", tags=["ledger"], dependencies=[Depends(dependency)])
    scratch = _Scratch(home / "coordinator" / "exporting")

    @router.get("/export", response_class=StreamingResponse, responses=_TAR)
    def export(
        folder: Annotated[Path, Depends(scratch.folder)],
        first: Annotated[int, Query(alias="from", ge=0, le=HIGHEST)] = 0,
        last: Annotated[
            int | None, Query(alias="to", ge=0, le=HIGHEST, description="default: all final blocks")
        ] = None,
    ) -> Response:
        """Final blocks in one file: the bytes of `consortium ledger export --archive`."""
        with store.snapshot() as snapshot:
            key = Home(home).keys[Role.RECORD]
            made = export_ledger(snapshot, COORDINATOR, key, folder, (first, last))
        name = f"ledger-{made.ledger[:16]}-{made.first_height}-{made.last_height}.tar"
        headers = {
            "Content-Length": str(archive_size(folder)),
            "Content-Disposition": f'attachment; filename="{name}"',
        }
        return StreamingResponse(archive(folder), 200, headers, "application/x-tar")

    @router.get("/verifier", response_class=Response, responses=_PYTHON)
    def verifier(request: Request) -> Response:
        """The single-file verifier, which needs only Python and `cryptography`."""
        data = files("ledger").joinpath("verifier.py").read_bytes()
        return tagged(
            request, sha256(data).hexdigest(),
            lambda: Response(data, media_type="text/x-python"), final=False,
        )  # fmt: skip

    return router


class _Scratch:
    """Folders for exports under way, as many as may be at once."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._free = threading.BoundedSemaphore(AT_ONCE)

    def folder(self) -> Iterator[Path]:
        """A dependency: a folder that is not there yet, for as long as the request lasts.

        Raises (when called):
            ExportsBusy: if there are as many already.
        """
        if not self._free.acquire(blocking=False):
            raise ExportsBusy(
                f"{AT_ONCE} exports are being downloaded already", "try again in a while"
            )
        try:
            self._parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._sweep()
            with TemporaryDirectory(dir=self._parent) as private:
                yield Path(private, "export")
        finally:
            self._free.release()

    def _sweep(self) -> None:
        for left in self._parent.iterdir():
            with suppress(FileNotFoundError):  # another request's, just over
                if left.stat().st_mtime < time.time() - _LEFT_OVER_S:
                    shutil.rmtree(left)
