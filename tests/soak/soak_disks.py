"""Disks that are full, or cannot be written to."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from soak_processes import until

PAGE = 4096


class SmallDisks(contextlib.ExitStack):
    """Makes folders into small disks of their own, with what was in them."""

    def make(self, folder: Path, free: int) -> None:
        """Puts a memory disk with ``free`` bytes left at ``folder``; skips without the right."""
        held = folder.with_name(f"{folder.name}.before")
        used = int(subprocess.check_output(["du", "-s", "-B1", folder]).split()[0])
        folder.rename(held)
        folder.mkdir()
        options = f"size={used + free},mode=700"
        command = ["mount", "-t", "tmpfs", "-o", options, "soak", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            folder.rmdir()
            held.rename(folder)
            pytest.skip("a small disk needs the right to mount one")
        self.callback(subprocess.run, ["umount", "-l", folder], check=True)
        subprocess.run(["cp", "-a", f"{held}/.", folder], check=True)


@contextlib.contextmanager
def full(folder: Path, left: int = 0) -> Iterator[None]:
    """Takes all space on a folder's own disk but ``left`` bytes, then gives it back."""
    filler = folder / "filler"
    output = os.open(filler, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        with contextlib.suppress(OSError):  # no space left
            while os.write(output, bytes(2**16)):
                assert os.fstat(output).st_size < 2**30, "this is no small disk"
        os.ftruncate(output, max(os.fstat(output).st_size // PAGE * PAGE - left, 0))
        yield
    finally:
        os.close(output)
        filler.unlink()


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Lets nobody write to a folder's own disk, as a kernel does after an error on it."""
    _remount(folder, "ro")
    try:
        yield
    finally:
        _remount(folder, "rw")


def _remount(folder: Path, how: str) -> None:
    command = ["mount", "-o", f"remount,{how}", str(folder)]

    def done() -> bool:  # refused while a file is open for writing
        return subprocess.run(command, capture_output=True).returncode == 0

    until(done, f"{folder} is remounted {how}")
