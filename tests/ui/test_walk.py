"""A browser on `consortium demo --portal`: while its job runs, and through every page after it."""

import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from browsing import PAGES, Visitor, chromium, visitor
from founded import CONSORTIUM, PATIENCE_S, free_port, running, until
from recorded_demo import fast_folder

from consortium.access import AccessTokens, Role

ROUNDS = 3
DEMO_S = 280
SCREENS = {
    Role.ADMIN: (1280, "light"), Role.SCIENTIST: (1280, "dark"), Role.AUDITOR: (390, "light"),
}  # fmt: skip


@dataclass(frozen=True)
class Demo:
    process: "subprocess.Popen[bytes]"
    home: Path
    address: str
    said: Path

    @property
    def site(self) -> str:
        return self.address.partition("/sign-in")[0]

    def over(self) -> bool:
        return "The portal stays open" in self.said.read_text()


@contextmanager
def demo_with_portal(home: Path) -> Iterator[Demo]:
    said = home.with_suffix(".said")
    command = [CONSORTIUM, "demo", "--home", home, "--rounds", str(ROUNDS), "--cheat", "resubmit",
               "--portal", "--portal-port", str(free_port())]  # fmt: skip
    with said.open("wb") as stderr, home.with_suffix(".out").open("wb") as stdout:
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr)
    try:
        until(lambda: "http" in said.read_text() or process.poll() is not None, "the portal")
        address = re.search(r"http://\S+", said.read_text())
        assert address, said.read_text()
        yield Demo(process, home, address[0], said)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_S)


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="medpole-walk-", dir=fast_folder()))
    folder.chmod(0o711)  # the database's own account passes through
    yield folder / "home"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(600)
def test_the_portal_beside_a_demo(home: Path, tmp_path: Path) -> None:
    with chromium() as browser, demo_with_portal(home) as demo:
        with visitor(browser, demo.site) as local:
            local.page.goto(demo.address)
            assert "code" not in local.page.url
            progress_moves_while_the_job_runs(local, demo)
            until(demo.over, "the demo's end")
            the_page_has_followed(local)
            every_part_is_reached_by_keyboard(local)
            a_record_is_proved_and_a_fingerprint_compared(local)
        tokens = {role: AccessTokens(home).issue("Ada Byron", role)[1] for role in SCREENS}
        for role, (width, scheme) in SCREENS.items():
            with visitor(browser, demo.site, width, scheme) as person:
                signs_in(person, tokens[role])
                walks_through_every_page(person)
                sees_who_it_is(person, role)
                if role is Role.AUDITOR:
                    takes_the_ledger_along(person, tmp_path)
                    is_out_once_the_token_is_taken_back(person, home, tokens[role])
    assert demo.process.returncode == 0, demo.said.read_text()


def progress_moves_while_the_job_runs(local: Visitor, demo: Demo) -> None:
    local.page.wait_for_selector(".mp-job", timeout=DEMO_S * 1000)
    local.page.evaluate("document.querySelector('h1').dataset.mark = 'the same'")
    seen: set[str] = set()
    done: set[int] = set()
    deadline = time.monotonic() + DEMO_S
    while max(done, default=0) < ROUNDS and time.monotonic() < deadline:
        assert demo.process.poll() is None, demo.said.read_text()
        bar = local.page.query_selector(".mp-job [role=progressbar]")
        if bar is None:
            break  # over between two looks
        done.add(int(bar.get_attribute("aria-valuenow") or 0))
        now = local.page.query_selector(".mp-job .mp-now")
        seen.add(now.inner_text() if now else "")
        if len(done) == 2:
            local.screenshot("live")
        local.page.wait_for_timeout(150)
    assert len(done) >= 2, "the bar moved"
    assert len(seen) >= 2, "the phase moved"
    # Drawn in place: not one full page load, nor a heading that was taken away.
    assert local.page.evaluate("document.querySelector('h1').dataset.mark") == "the same"
    assert not local.complaints, local.complaints


def the_page_has_followed(local: Visitor) -> None:
    local.says("No job is running.")
    local.page.get_by_role("cell", name="finished").first.wait_for()


def every_part_is_reached_by_keyboard(local: Visitor) -> None:
    local.open("")
    reached = set()
    for _ in range(40):
        local.page.keyboard.press("Tab")
        at = local.page.evaluate(
            "(() => { const e = document.activeElement, s = getComputedStyle(e);"
            " return [e.textContent.trim() || e.getAttribute('aria-label') || '',"
            " s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0]; })()"
        )
        reached.add(at[0])
        if any("Sign out" in text for text in reached) and "breast-cancer-1" in reached:
            break
        assert at[1] or not at[0], f"where the focus is cannot be seen: {at[0]!r}"
    for part in ("Models", "Institutions", "Sign out", "breast-cancer-1"):
        assert any(part in text for text in reached), (part, reached)


def a_record_is_proved_and_a_fingerprint_compared(local: Visitor) -> None:
    local.open("ledger?q=2", "record")
    local.says("consistent, but not compared")
    fingerprint = local.page.locator("code.mp-mono").first.inner_text()
    field = local.page.get_by_label("What you were told")
    field.fill("f" * 64)
    field.press("Enter")
    local.says("NOT equal.")
    field.fill(fingerprint)
    field.press("Enter")
    local.says("verified against the fingerprint that you were told")


def signs_in(person: Visitor, token: str) -> None:
    person.page.goto(f"{person.site}/models")  # without a cookie: to the form, and back here
    person.page.wait_for_selector("#token")
    person.screenshot("sign-in")
    person.page.fill("#token", f"{token}x")
    person.page.press("#token", "Enter")
    person.says("This token was refused.")
    person.complaints.clear()  # that was a 401, as it should be
    person.page.fill("#token", token)
    person.page.press("#token", "Enter")
    person.page.wait_for_url(f"{person.site}/models")


def walks_through_every_page(person: Visitor) -> None:
    for name in PAGES:
        person.open("" if name == "overview" else name, name)


def sees_who_it_is(person: Visitor, role: Role) -> None:
    narrow = person.mode.startswith("390")
    if narrow:
        person.page.get_by_test_id("stExpandSidebarButton").click()
    person.page.locator(".mp-person .mp-chip").get_by_text(str(role)).wait_for()
    if narrow:
        person.screenshot("menu")
        person.page.get_by_test_id("stSidebarCollapseButton").get_by_role("button").click()
    person.open("models")
    weights = person.page.get_by_role("link", name="Weights")
    assert weights.count() == (role is not Role.AUDITOR)
    if role is Role.AUDITOR:
        person.says("Not offered to an auditor")


def takes_the_ledger_along(person: Visitor, folder: Path) -> None:
    """Downloads the export and the verifier, and verifies with nothing else."""
    person.open("ledger")
    taken = {}
    for name in ("Export of all", "Single-file"):
        with person.page.expect_download() as waiting:
            person.page.get_by_role("link", name=name).click()
        taken[name] = folder / waiting.value.suggested_filename
        waiting.value.save_as(taken[name])
    with tarfile.open(taken["Export of all"]) as archive:
        archive.extractall(folder / "export")  # filters came with Python 3.11.4
    fingerprint = person.page.locator("code.mp-mono").first.inner_text()
    verified = subprocess.run(
        [sys.executable, "-I", taken["Single-file"], folder / "export", "--genesis", fingerprint],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert "consistent, and pinned" in verified.stdout, verified.stderr


def is_out_once_the_token_is_taken_back(person: Visitor, home: Path, token: str) -> None:
    AccessTokens(home).revoke(token.split("_")[1])
    person.says("You are not signed in any more.")  # by itself
    person.page.get_by_role("link", name="Sign in again").click()
    person.page.wait_for_selector("#token")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_role_at_every_screen(demo_home: Path) -> None:
    with chromium() as browser, running(demo_home) as portal:
        tokens = {role: AccessTokens(demo_home).issue("Ada Byron", role)[1] for role in SCREENS}
        for role, token in tokens.items():
            for width in (1280, 390):
                for scheme in ("light", "dark"):
                    with visitor(browser, portal.url, width, scheme) as person:
                        signs_in(person, token)
                        for name in PAGES:
                            person.open("" if name == "overview" else name, f"{role}-{name}")
                        person.open("ledger?q=2", f"{role}-record")
