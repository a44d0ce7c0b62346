"""The compose files and the Dockerfile, read; and their services as processes of this machine.

No container engine is needed: what a container would start, with the environment it would have,
is started here, with paths, names and ports of this machine in their place. Where the machine
allows, as a container has it too: read-only root, an account without rights, no capabilities.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from deployment import BIN, ROOT, Failed, Process, until

COORDINATOR, HOSPITAL = "docker-compose.yml", "docker-compose.hospital.yml"
STATE, SECRETS, ACCOUNT = "/var/lib/medpole", "/run/secrets", 10001
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


@dataclass
class Image:
    """A stage of the Dockerfile, with what it has from the stage before."""

    base: str
    environment: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def entrypoint(self) -> list[str]:
        return list(json.loads(self.settings["ENTRYPOINT"]))


def images() -> dict[str, Image]:
    """The Dockerfile's stages, by name."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    arguments: dict[str, str] = {}
    stages: dict[str, Image] = {}
    for line in filter(None, text.replace("\\\n", " ").splitlines()):
        word, rest = line.split(maxsplit=1)
        if word == "ARG":
            name, _, default = rest.partition("=")
            arguments.setdefault(name, default)
        elif word == "FROM":
            base, _, name = rest.split()
            base = VARIABLE.sub(lambda found: arguments[found[1]], base)
            before = stages.get(base, Image(base))
            stage = stages[name] = Image(
                before.base, dict(before.environment), dict(before.settings)
            )
        elif word == "ENV":
            stage.environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        else:
            stage.settings[word] = rest
    return stages


@cache
def compose(file: str) -> dict[str, Any]:
    """A compose file, every variable at its default."""
    return dict(_filled(yaml.safe_load((ROOT / file).read_text())))


def services(file: str) -> dict[str, dict[str, Any]]:
    """A compose file's services."""
    return dict(compose(file)["services"])


def _filled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _filled(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_filled(each) for each in value]
    return VARIABLE.sub(lambda found: found[2] or "", value) if isinstance(value, str) else value


@dataclass
class Machine:
    """What stands here in the place of one container host's paths, names and ports."""

    folder: Path
    image: Image
    file: str
    places: dict[str, str]
    confined: bool = False

    def __post_init__(self) -> None:
        self.services = services(self.file)
        self.state = self.folder / "state"
        temporary = self.folder / "tmp"
        for path in (self.state, temporary):
            path.mkdir(parents=True)
            if self.confined:
                os.chown(path, ACCOUNT, ACCOUNT)
        self.places = {
            **self.places, STATE: str(self.state), "/tmp": str(temporary), "0.0.0.0": "127.0.0.1",
            "/etc/caddy/Caddyfile": str(ROOT / "Caddyfile"),
        }  # fmt: skip

    def here(self, text: str) -> str:
        """A container's path, name or port as it is on this machine."""
        pattern = "|".join(map(re.escape, sorted(self.places, key=len, reverse=True)))
        return re.sub(rf"(?<![\w.])({pattern})(?!\d)", lambda found: self.places[found[0]], text)

    def line(
        self, service: str, *arguments: str | Path, of: str = "command", **environment: str
    ) -> list[str]:
        """The whole command line of a service's container, or of another command in it."""
        found = self.services[service]
        ours = found["image"].startswith("medpole-")
        variables = {**(self.image.environment if ours else {}), **found.get("environment", {})}
        if of == "health":
            marker, *command = found["healthcheck"]["test"]
            assert marker == "CMD"
        else:
            typed = [str(each) for each in arguments] or [self.here(a) for a in found["command"]]
            command = [*(self.image.entrypoint if ours else []), *typed]
        words = [self.here(word) for word in command] if of == "health" else command
        program = BIN / words[0] if (BIN / words[0]).exists() else shutil.which(words[0])
        if program is None:
            raise FileNotFoundError(words[0])
        variables = {name: self.here(text) for name, text in variables.items()} | environment
        variables["PATH"] = f"{BIN}:{os.defpath}"
        pairs = [f"{name}={text}" for name, text in variables.items()]
        whole = ["/usr/bin/env", "-i", *pairs, "OMP_NUM_THREADS=1", str(program), *words[1:]]
        return [*confine(self.folder), *whole] if self.confined else whole

    def run(self, service: str, *arguments: str | Path, expect: int = 0, **more: str) -> str:
        """Runs a command as `docker compose run` does; its standard output."""
        line = self.line(service, *arguments, **more)
        done = subprocess.run(
            line, capture_output=True, text=True, timeout=120, check=False,
            stdin=subprocess.DEVNULL, cwd=self.folder,
        )  # fmt: skip
        if done.returncode != expect:
            what = " ".join(map(str, arguments[:3])) or service
            raise Failed(f"{service}: {what} … exit {done.returncode}\n{done.stderr[-3000:]}")
        return done.stdout

    def json(self, service: str, *arguments: str | Path) -> Any:
        return json.loads(self.run(service, *arguments, "--format", "json"))

    def process(self, service: str) -> Process:
        return Process(service, self.line(service), self.folder / f"{service}.log").start()

    def healthy(self, service: str) -> bool:
        """What the service's health check says."""
        try:
            self.run(service, of="health")
        except (Failed, FileNotFoundError):
            return False
        return True

    def until_healthy(self, service: str, process: Process) -> None:
        def looked() -> bool:
            assert process.running(), process.text()[-3000:]
            return self.healthy(service)

        until(looked, 60, f"{service} is healthy", every=0.5)


# A container's confinement

_CONFINE = """
folder=$1 python=$2 hidden=$3; shift 3
for each in "$folder"/*/; do
  mount --bind "$each" "$each"; mount -o remount,bind,noexec,nosuid,nodev "$each"
done
if [ -n "$hidden" ]; then
  kept=$(mktemp -d); mount --bind "$python" "$kept"
  mount -t tmpfs -o mode=755 none "$hidden"; mkdir -p "$python"; mount --move "$kept" "$python"
  rmdir "$kept"
fi
mount --bind / /; mount -o remount,bind,ro /
exec setpriv --reuid ACCOUNT --regid ACCOUNT --clear-groups --no-new-privs --inh-caps=-all \
  --bounding-set=-all "$@"
""".replace("ACCOUNT", str(ACCOUNT))


def confine(folder: Path) -> list[str]:
    """What precedes a command so that it can write to the folders in ``folder`` and no others."""
    python = Path(sys.base_prefix).resolve()
    hidden = next((p for p in reversed(python.parents) if not p.stat().st_mode & 0o001), "")
    script = ["sh", "-ec", _CONFINE, "sh", str(folder), str(python), str(hidden)]
    unshare = shutil.which("unshare") or "unshare"
    return [unshare, "--mount", "--propagation", "private", *script]


def can_confine(folder: Path) -> bool:
    """Whether this machine allows that: root, its own mounts, programs that others may run."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv"))):
        return False
    place = folder / "probe"
    (place / "own").mkdir(parents=True)
    os.chown(place / "own", ACCOUNT, ACCOUNT)
    attempt = (
        f"import os, consortium; assert os.getuid() == {ACCOUNT}; open('own/yes', 'w')\n"
        "try: open('no', 'w')\nexcept OSError: open('own/read-only', 'w')"
    )
    line: Sequence[str] = [*confine(place), str(BIN / "python"), "-c", attempt]
    done = subprocess.run(line, cwd=place, capture_output=True, check=False)
    return done.returncode == 0 and (place / "own" / "read-only").exists()
