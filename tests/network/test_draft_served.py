"""`consortium serve` on a draft: one founder, all on one machine, until the ledger has begun."""

import json
import signal
import threading
from pathlib import Path

import httpx
import pytest
from commands import Machines, call, machines, ok, until

from consortium.founding import founding, take_signatures
from hospital_agent.connection import connect


def drafted(site: Machines) -> tuple[Path, Path, Path]:
    """A genesis over one founder that enrolled by a token; home, its folder, its signature."""
    home, folder, signature = site.root / "home", site.root / "hospital-1", site.root / "signature"
    ok("consortium", "init", "--title", "Heart consortium", "--home", home)
    site.serve(home)
    invite = ("consortium", "institution", "invite", "hospital-1", "--title", "H", "--home", home)
    ok(*ok(*invite).value("run").split(), "--home", folder)
    assert not (folder / "ca.pem").exists()
    ok("consortium", "institution", "approve", "hospital-1", "--yes", "--home", home)
    done = ok("consortium", "genesis", "--approved", "--home", home)
    ok(
        "hospital-agent", "sign-genesis", home / "genesis.json", "--home", folder, "--out",
        signature, "--fingerprint", done.value("fingerprint"),
    )  # fmt: skip
    return home, folder, signature


def ends(site: Machines) -> None:
    """The server ends in order."""
    process = site.processes.pop()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def test_connections_are_taken_all_the_time_while_the_ledger_begins() -> None:
    """New connections all the time, while a command beside the server founds the ledger."""
    answers: list[int] = []
    failed: list[httpx.HTTPError] = []
    stopping = threading.Event()

    def ask(api: str) -> None:
        while not stopping.is_set():
            try:
                with connect(api) as client:
                    answers.append(client.get("/v1/genesis").status_code)
            except httpx.HTTPError as error:
                failed.append(error)

    with machines() as site:
        home, folder, signature = drafted(site)
        thread = threading.Thread(target=ask, args=(f"unix:{home / 'api.sock'}",))
        thread.start()
        until(lambda: answers, "the draft is served")
        done = ok("consortium", "genesis", "--signatures", signature, "--home", home)
        assert done.value("final") == "True"
        witness = ("hospital-agent", "witness", "--once", "--home", folder)
        until(lambda: call(*witness).code == 0, "the ledger is served")
        stopping.set()
        thread.join()
        # None is refused. One that the draft's server had just taken may be cut off as it ends:
        # its client asks again.
        assert len(failed) <= 1
        assert not any(isinstance(error, httpx.ConnectError) for error in failed)
        assert set(answers) == {200}
        status = ok("consortium", "ledger", "status", "--home", home, "--format", "json")
        assert json.loads(status.out)["final"] is True
        ends(site)
        assert not (home / "api.sock").exists()


def test_killed_between_the_last_signature_and_block_0(monkeypatch: pytest.MonkeyPatch) -> None:
    with machines() as site:
        home, folder, signature = drafted(site)
        ends(site)
        with monkeypatch.context() as patch:

            def killed(*_: object) -> None:
                raise KeyboardInterrupt

            patch.setattr("consortium.founding._store", killed)
            with pytest.raises(KeyboardInterrupt):
                take_signatures(home, [signature])
        state = founding(home)
        assert (state.missing, state.final) == ((), False)
        site.serve(home)
        witness = ("hospital-agent", "witness", "--once", "--home", folder)
        until(lambda: call(*witness).code == 0, "the ledger is served")
        with connect(f"unix:{home / 'api.sock'}") as client:
            content = client.get("/v1/genesis").json()
        assert (content["ledger"], content["final"]) == (state.ledger, True)
