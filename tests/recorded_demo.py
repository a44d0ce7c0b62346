"""One demo for a whole test run, recorded once by whichever worker needs it first.

Four hospitals, three rounds, one of them re-submitting its first update: its proofs of rounds 2 and
3 are rejected. Whoever looks at it gets a copy of the home for itself.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CONSORTIUM = Path(sys.executable).with_name("consortium")
ROUNDS, CHEATER = 3, "hospital-1"
OPTIONS = ("--rounds", str(ROUNDS), "--cheat", "resubmit", "--compare-nonprivate")


def fast_folder() -> Path:
    """Memory where there is enough: a database is 1,300 small files."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK)
    return memory if roomy and shutil.disk_usage(memory).free > 2**30 else Path("/tmp")


def recording_folder(run: str) -> Path:
    """Where a test run's recording lies: a short path, open to PostgreSQL's account."""
    return fast_folder() / f"medpole-recorded-{run}"


def report_of(run: str) -> Path:
    """What the recorded demo reported, once it is recorded."""
    return recording_folder(run) / "report.json"


def said(run: str) -> tuple[str, str]:
    """What it printed, on standard output and on standard error."""
    folder = recording_folder(run)
    return (folder / "stdout").read_text(), (folder / "stderr").read_text()


def recorded(run: str) -> Path:
    """The home of the run's demo, made if it is not there yet; not to be opened, but copied."""
    folder = recording_folder(run)
    folder.mkdir(mode=0o711, exist_ok=True)
    home = folder / "home"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            shutil.rmtree(home, ignore_errors=True)
            report = str(report_of(run))
            command = [str(CONSORTIUM), "demo", "--home", str(home), "--report", report, *OPTIONS]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stderr
            (folder / "stdout").write_text(done.stdout)
            (folder / "stderr").write_text(done.stderr)
            (folder / "done").touch()
    return home


def copy_of(home: Path) -> Path:
    """A home of one's own, with the same database; whoever asks removes its parent."""
    folder = Path(tempfile.mkdtemp(prefix="medpole-copy-", dir=fast_folder()))
    folder.chmod(0o711)
    subprocess.run(["cp", "-a", home, folder / "home"], check=True)
    return folder / "home"
