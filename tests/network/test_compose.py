"""The compose files say what they should, and what they name runs a job: see `composed`."""

import contextlib
import http.client
import os
import re
import secrets
import shutil
import signal
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from composed import (
    ACCOUNT,
    COORDINATOR,
    HOSPITAL,
    SECRETS,
    VARIABLE,
    Machine,
    can_confine,
    compose,
    images,
    services,
)
from deployment import BIN, HEART, ROOT, Failed, Process, as_json, free_port, port_open, until
from hospital_tables import BREAST, write_tables
from hospital_tables import HEART as HEART_TASK

from consortium.events import events
from ledger.postgres.account import account_for_new, server_environment
from ledger.postgres.binaries import choose

FILES = (COORDINATOR, HOSPITAL)
ALL = [(file, name) for file in FILES for name in services(file)]
ONCE = {"roles", "migrate"}
PINNED = re.compile(r"[a-z/-]+:\d+\.\d+(\.\d+)?(-[a-z]+)*")
ROUNDS = 2


# What the files say


def test_every_variable_is_explained_with_the_default_that_is_used() -> None:
    shown = re.findall(r"^#.*\n(?:#.*\n)*?#?(\w+)=(.*)$", example(), flags=re.MULTILINE)
    assert len(shown) == len(dict(shown))
    used = [found for file in FILES for found in VARIABLE.findall((ROOT / file).read_text())]
    assert set(used) == set(shown)


def example() -> str:
    return (ROOT / ".env.example").read_text()


def test_no_variable_is_read_without_braces() -> None:
    for file in FILES:
        text = re.sub(r"^#.*\n", "", (ROOT / file).read_text(), flags=re.MULTILINE)
        assert "$" not in VARIABLE.sub("", text)


def test_images_are_pinned() -> None:
    for file, name in ALL:
        assert PINNED.fullmatch(services(file)[name]["image"])
    stages = images()
    assert {"coordinator", "hospital"} <= set(stages)
    for stage in stages.values():
        assert PINNED.fullmatch(stage.base)


def test_what_is_built_is_what_runs() -> None:
    """One service builds each of our images; none is looked for in a registry."""
    defaults = dict(re.findall(r"^ARG (\w+)=(.*)$", dockerfile(), flags=re.MULTILINE))
    every = [services(file)[name] for file, name in ALL]
    built = [(each["image"], each["build"]) for each in every if "build" in each]
    assert built == [
        (f"medpole-{target}:0.1.0", {"context": ".", "target": target, "args": defaults})
        for target in ("coordinator", "hospital")
    ]
    for each in every:
        assert (each.get("pull_policy") == "never") == (each["image"] in dict(built))


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


def test_the_build_is_told_where_packages_come_from() -> None:
    assert "://" not in dockerfile()
    for target, extras in (("coordinator", "coordinator,portal"), ("hospital", "agent")):
        install = images()[f"build-{target}"].settings["RUN"]
        assert install.endswith(f"--constraint constraints.txt '.[{extras}]'")
        assert images()[target].settings["COPY"].startswith(f"--from=build-{target} ")


def test_the_build_gets_the_packages_and_nothing_else() -> None:
    ignored, *kept = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] != "#"
    ]
    assert ignored == "*"
    copied = re.findall(r"^COPY (?!--)(.*) \S+$", dockerfile(), flags=re.MULTILINE)
    needed = {f"!{name}" for line in copied for name in line.split()}
    assert set(kept) == needed | {"**/__pycache__"}
    project = (ROOT / "pyproject.toml").read_text()
    [packages] = re.findall(r"^include = \[(.*)\]$", project, flags=re.MULTILINE)
    for package in re.findall(r'"(\w+)\*"', packages):
        assert f"!{package}" in kept


@pytest.mark.parametrize("target", ["coordinator", "hospital"])
def test_our_images_run_as_nobody_in_particular(target: str) -> None:
    image = images()[target]
    assert image.settings["USER"] == f"{ACCOUNT}:{ACCOUNT}"
    assert image.settings["STOPSIGNAL"] == "SIGTERM"
    assert image.environment["HOME"] == "/tmp"
    assert image.environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert image.environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    with_path = {
        name: text
        for name, text in image.environment.items()
        if text.startswith("/") and name != "PATH"
    }
    assert all(re.match(r"/tmp\b|/var/lib/medpole$", text) for text in with_path.values())


@pytest.mark.parametrize(("file", "name"), ALL)
def test_every_container_has_the_least_that_it_needs(file: str, name: str) -> None:
    service = services(file)[name]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", service["user"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "proxy" else [])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in service["tmpfs"]
    assert not {"privileged", "devices", "pid", "ipc", "network_mode", "env_file"} & set(service)
    assert service["restart"] == ("no" if name in ONCE else "unless-stopped")
    assert ("healthcheck" in service) == (name not in ONCE)
    bound = [volume for volume in service.get("volumes", []) if str(volume)[0] in "./~"]
    assert bound == (["./Caddyfile:/etc/caddy/Caddyfile:ro"] if name == "proxy" else [])


def test_nothing_is_published_but_the_proxy() -> None:
    found = {name: services(file)[name] for file, name in ALL}
    published = {name: service["ports"] for name, service in found.items() if "ports" in service}
    portal = published.pop("portal")
    assert published == {"proxy": ["0.0.0.0:8443:8443"]}
    # Only where somebody asks for it, and for those on this machine.
    assert portal == ["127.0.0.1:8501:8501"]
    asked_for = {n: service["profiles"] for n, service in found.items() if "profiles" in service}
    assert asked_for == {"portal": ["portal"]}


def test_only_what_is_published_is_on_a_network_that_leads_out() -> None:
    assert compose(COORDINATOR)["networks"]["internal"] == {"internal": True}
    for service in services(COORDINATOR).values():
        assert service["networks"] == ["internal", "edge"][: 2 if "ports" in service else 1]


def test_the_proxy_sees_no_key_that_signs_records() -> None:
    _, home, hidden, tls = services(COORDINATOR)["proxy"]["volumes"]
    assert home == {
        "type": "volume", "source": "home", "target": "/var/lib/medpole", "read_only": True
    }  # fmt: skip
    assert hidden == {"type": "tmpfs", "target": "/var/lib/medpole/coordinator"}
    assert tls["target"] == f"/var/lib/medpole/{tls['volume']['subpath']}"
    assert tls["read_only"] is True
    assert tls["volume"]["subpath"] == "coordinator/tls"


def test_passwords_are_files_and_each_goes_where_it_is_needed() -> None:
    files = compose(COORDINATOR)["secrets"]
    assert files == {name: {"file": f"./secrets/{name}"} for name in files}
    assert "secrets" not in compose(HOSPITAL)
    holders: dict[str, list[str]] = {name: [] for name in files}
    for name, service in services(COORDINATOR).items():
        variables = service.get("environment", {})
        for secret in service.get("secrets", []):
            holders[secret].append(name)
        named = {v[len(SECRETS) + 1 :] for v in variables.values() if v.startswith(SECRETS)}
        assert named == set(service.get("secrets", []))
        for variable, text in variables.items():
            assert not re.search(r"://[^/@]*:[^/@]*@", text), "a password in a URL"
            if re.search("PASSWORD|SECRET|TOKEN", variable):
                assert variable.endswith("_FILE") or variable == "POSTGRES_HOST_AUTH_METHOD"
    assert holders == {
        "superuser": ["postgres", "roles"],
        "migrator": ["roles", "migrate"],
        "application": ["roles", "api", "coordinator", "portal"],
    }


def test_what_depends_on_what_ends_at_the_database() -> None:
    found = services(COORDINATOR)
    for name, service in found.items():
        for other, how in service.get("depends_on", {}).items():
            wanted = "completed_successfully" if other in ONCE else "healthy"
            assert how == {"condition": f"service_{wanted}"}, (name, other)
    order: list[str] = []
    while ready := [
        n for n in found if n not in order and set(found[n].get("depends_on", {})) <= set(order)
    ]:
        order += ready
    assert set(order) == set(found)


@pytest.mark.parametrize("file", FILES)
def test_the_commands_in_its_head_exist(file: str) -> None:
    head = (ROOT / file).read_text().split("\nname:")[0]
    assert len(head.splitlines()) <= 15
    typed = re.findall(
        r"docker compose run --rm (?:-v \S+ )?(api|agent) ([a-z-]+(?: (?:make|invite|approve|submit"
        r"|add))?\b)",
        head,
    )
    assert len(typed) >= 4
    started = [(n, " ".join(services(file)[n]["command"])) for f, n in ALL if f == file]
    for service, command in typed + started:
        found = services(file)[service]
        if found["image"].startswith("medpole-"):
            target = "hospital" if file == HOSPITAL else "coordinator"
            words = [word for word in command.split() if re.fullmatch("[a-z-]+", word)]
            words = words[: next((i for i, w in enumerate(words) if w[0] == "-"), None)]
            _help(*images()[target].entrypoint, *words)


def _help(program: str, *words: str) -> None:
    done = subprocess.run(
        [str(BIN / program), *words, "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{program} {' '.join(words)}" in " ".join(done.stdout.split())


# What they name, run


@dataclass
class Composed:
    """Both sides, running."""

    folder: Path
    site: Machine
    ports: dict[str, str]
    task: str = HEART_TASK if HEART.is_dir() else BREAST
    ledger: str = ""
    hospitals: dict[str, Machine] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.ports['8443']}"

    def run(self, *arguments: str | Path, **options: Any) -> str:
        return self.site.run("api", *arguments, **options)


@contextmanager
def composed() -> Iterator[Composed]:
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="medpole-", dir="/tmp"))  # a socket's path is short
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        confined = can_confine(folder)
        print("read-only, without rights" if confined else "this machine confines nothing")
        ports = {name: str(free_port()) for name in ("5432", "8000", "8443", "8501")}
        places = {
            **ports,
            "postgres:5432": f"127.0.0.1:{ports['5432']}",
            "superlink:8000": f"localhost:{ports['8000']}",
            SECRETS: str(folder / "secrets"),
        }
        (folder / "secrets").mkdir()
        for name in ("superuser", "migrator", "application"):
            (folder / "secrets" / name).write_text(f"{secrets.token_hex(24)}\n")
        site = Machine(
            folder / "site", images()["coordinator"], COORDINATOR, places, confined=confined
        )
        stack.enter_context(postgres(site, folder / "postgres", int(ports["5432"])))
        made = Composed(folder, site, ports)
        stack.enter_context(ended(made.processes))
        start(made, confined)
        yield made


@contextmanager
def ended(processes: dict[str, Process]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for process in processes.values():
            print(f"--- {process.name}\n{process.text()[-2500:]}")
        raise
    finally:
        for process in reversed(processes.values()):
            process.stop()


@contextmanager
def postgres(site: Machine, folder: Path, port: int) -> Iterator[None]:
    """As the image's entrypoint does it with this environment: superuser, password, database."""
    service = site.services["postgres"]
    settings = {name: site.here(text) for name, text in service["environment"].items()}
    account = account_for_new()
    folder.mkdir()
    account.own(folder)
    shelter = folder.parent / "shelter"
    shelter.mkdir(mode=0o755)
    program = choose(account, None, lambda: shelter).bin
    password = Path(settings["POSTGRES_PASSWORD_FILE"])
    made = account.run(
        [program / "initdb", "--username=postgres", f"--pwfile={password}", "--no-sync",
         "-D", folder / "data", *settings["POSTGRES_INITDB_ARGS"].split()],
        timeout=120,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout
    local = [f"--port={port}", "--listen_addresses=127.0.0.1", "--unix_socket_directories="]
    name, *flags = service["command"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program / name, "-D", folder / "data", *local, *flags], stdout=log, stderr=log,
            user=account.uid, group=account.gid, cwd="/", env=server_environment(),
            extra_groups=None if account.uid is None else [],
        )  # fmt: skip
    try:
        for database in ("postgres", settings["POSTGRES_DB"]):
            dsn = f"host=127.0.0.1 port={port} user=postgres password={password.read_text()}"
            connection = until(lambda dsn=dsn: connected(dsn), 30, "PostgreSQL answers")
            with contextlib.closing(connection):
                connection.autocommit = True
                if database != "postgres":
                    connection.cursor().execute(f"CREATE DATABASE {database}")
        os.environ.pop("DATABASE_URL", None)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def connected(dsn: str) -> Any:
    with contextlib.suppress(psycopg2.OperationalError):
        return psycopg2.connect(dsn, dbname="postgres")
    return None


def start(made: Composed, confined: bool) -> None:
    """What the heads of both files say, in their order."""
    site = made.site
    data = HEART if made.task == HEART_TASK else None
    tables = dict(list(write_tables(made.folder / "tables", made.task, data).items())[:3])
    assert "medpole_app" in site.run("roles")
    site.run("migrate")
    made.run("init", "--title", "Composed")
    made.run("tls", "make", "localhost", "superlink")
    for name in ("api", "superlink", "proxy"):
        made.processes[name] = site.process(name)
    for name in ("api", "superlink"):
        site.until_healthy(name, made.processes[name])
    made.processes["coordinator"] = site.process("coordinator")
    until(lambda: port_open(int(made.ports["8443"])), 30, "the proxy listens")
    for name in tables:
        places = {"8090": str(free_port())}
        made.hospitals[name] = Machine(
            made.folder / name, images()["hospital"], HOSPITAL, places, confined=confined
        )

    def enrol(name: str) -> None:
        agent = made.hospitals[name]
        invited = site.json(
            "api", "institution", "invite", name, "--title", name.title(), "--url", made.url
        )
        agent.run("agent", "enrol", made.url, invited["token"])
        made.run("institution", "approve", name, "--yes")

    def add(name: str) -> None:
        path, patients = tables[name][0], str(tables[name][1].declared_patients)
        made.hospitals[name].run(
            "agent", "data", "add", "cohort", "--task", made.task, "--source", path,
            "--declared-patients", patients,
        )  # fmt: skip
        made.hospitals[name].run("agent", "sign-genesis", "--fingerprint", made.ledger)

    with ThreadPoolExecutor(2) as side_by_side:
        list(side_by_side.map(enrol, tables))
        made.ledger = site.json("api", "genesis", "--approved")["fingerprint"]
        list(side_by_side.map(add, tables))
        for name, agent in made.hospitals.items():
            made.processes[name] = agent.process("agent")
        list(side_by_side.map(
            lambda name: made.hospitals[name].until_healthy("agent", made.processes[name]), tables
        ))  # fmt: skip


def a_job_runs_and_its_export_verifies(composed: Composed) -> None:
    def submitted() -> str | None:
        try:
            return str(composed.site.json(
                "api", "job", "submit", "--task", composed.task, "--rounds", str(ROUNDS),
                "--delta", "0.00001",
            )["job"])  # fmt: skip
        except Failed as error:
            if "offer patients" in str(error):
                return None
            raise

    job = until(submitted, 40, "three hospitals offer the task", every=0.5)
    watched = composed.run("job", "watch", job)
    assert f"{job}: finished, {ROUNDS} of {ROUNDS} rounds" in watched
    out = composed.site.state / "export"
    composed.run("ledger", "export", "--out", out)
    verified = as_json("consortium", "ledger", "verify", out, "--genesis", composed.ledger)
    assert verified["verdict"] == "verified against the pinned genesis"
    assert verified["fewest_cosigners"] == 3


def the_files_may_be_brought_up_again_meanwhile(composed: Composed) -> None:
    assert "medpole_app" in composed.site.run("roles")
    composed.site.run("migrate")
    for name in ("api", "superlink", "coordinator"):
        assert composed.site.healthy(name)


def the_applications_account_reads_and_appends(composed: Composed) -> None:
    password = (composed.folder / "secrets" / "application").read_text().strip()
    dsn = f"host=127.0.0.1 port={composed.ports['5432']} user=medpole_app password={password}"
    with contextlib.closing(psycopg2.connect(dsn, dbname="medpole")) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("SELECT count(*), min(tableowner) FROM entries, pg_tables "
                       "WHERE tablename = 'entries'")  # fmt: skip
        count, owner = cursor.fetchone() or (0, "")
        assert count > 0
        assert owner == "medpole_owner"
        for statement in ("DELETE FROM blocks", "CREATE TABLE mine ()", "SET ROLE medpole_owner"):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(statement)


def no_password_is_in_a_log(composed: Composed) -> None:
    logs = [process.log.read_bytes() for process in composed.processes.values()]
    logs.append((composed.folder / "postgres" / "log").read_bytes())
    for secret in (composed.folder / "secrets").iterdir():
        assert not any(secret.read_bytes().strip() in log for log in logs)


def from_outside_nothing_reaches_the_coordinators_ports(composed: Composed) -> None:
    ca = composed.site.state / "coordinator" / "tls" / "ca.pem"
    secret = (composed.site.state / "coordinator" / "superlink.secret").read_text().strip()
    asked = {
        "/v1/control/start-run": 404, "/v1/runtime/pull-messages": 404, "/openapi.json": 404,
        "/docs": 404, "/health": 404, "/v1/fleet/../control/start-run": 404,
        "/v1/fleet/%2e%2e/control/start-run": 404, "//v1/control/start-run": 404,
        "/V1/CONTROL/start-run": 404, "/v1/fleet/pull-messages": 403, "/v1/ledger/head": 401,
    }  # fmt: skip
    trusted = ssl.create_default_context(cafile=str(ca))
    for path, status in asked.items():
        for method in ("GET", "POST") if status != 401 else ("GET",):
            outside = http.client.HTTPSConnection(
                "localhost", int(composed.ports["8443"]), context=trusted, timeout=30
            )
            with contextlib.closing(outside):
                outside.request(method, path, headers={"x-medpole-coordinator": secret})
                assert outside.getresponse().status == status, (method, path)
    codes = {event["code"] for event in events(composed.site.state)}
    assert "NodeUnknown" in codes  # what does come through is put on record
    assert "CoordinatorSecretWrong" not in codes


def the_proxy_is_given_the_servers_key_and_no_other(composed: Composed) -> None:
    *_, tls = services(COORDINATOR)["proxy"]["volumes"]
    given = composed.site.state / tls["volume"]["subpath"]
    assert {path.name for path in given.iterdir()} == {"ca.pem", "server.key", "server.pem"}


def the_portal_runs_beside_the_api(composed: Composed) -> None:
    portal = composed.site.process("portal")
    try:
        composed.site.until_healthy("portal", portal)
        assert composed.site.healthy("api")
    finally:
        portal.stop()


def a_health_check_can_fail(composed: Composed) -> None:
    agent = next(iter(composed.hospitals.values()))
    told = agent.run("agent", of="health", expect=1, MEDPOLE_HEALTH_PORT=str(free_port()))
    assert told == ""
    for name in ("api", "superlink", "coordinator", "portal"):
        nobody = dict(composed.site.places, **{port: str(free_port()) for port in composed.ports})
        nobody["superlink:8000"] = f"localhost:{nobody['8000']}"
        other = replace(composed.site, folder=composed.folder / f"no-{name}", places=nobody)
        assert not other.healthy(name)


def a_termination_signal_ends_each_in_order(composed: Composed) -> None:
    """What a container engine sends first, long before it kills."""
    for name, process in reversed(composed.processes.items()):
        assert process.running(), name
        # uvicorn, once all is done, ends by the signal that it was sent.
        assert process.stop(60) in (0, -signal.SIGTERM), process.text()[-1000:]


def test_what_the_files_name_runs() -> None:
    """One test: to start it all is dear."""
    checks = (
        a_job_runs_and_its_export_verifies,
        the_files_may_be_brought_up_again_meanwhile,
        the_applications_account_reads_and_appends,
        from_outside_nothing_reaches_the_coordinators_ports,
        the_proxy_is_given_the_servers_key_and_no_other,
        the_portal_runs_beside_the_api,
        a_health_check_can_fail,
        a_termination_signal_ends_each_in_order,
        no_password_is_in_a_log,
    )
    with composed() as running:
        for check in checks:
            check(running)
