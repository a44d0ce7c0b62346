"""Kills processes of a consortium one after the other, and has it checked each time.

A kill is aimed at one step of the code (`soak_steps.STEPS`), or random in time, or of a part of
PostgreSQL. Kills are drawn from a seed; the first ones go through different occasions, so that
a short run has seen each. What is killed is started again, what was a command is repeated.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from soak_checks import Checks
from soak_consortium import KILLED, QUORUM, Consortium, some
from soak_founding import INSTITUTIONS
from soak_processes import TICK_S, Child, until
from soak_steps import BACKENDS, KEEPER, POSTGRES, SELF, STEPS, Order, Step, kill_database

Report = Callable[[str], None]
ROTATING = INSTITUTIONS[-1]  # its keys change: the client hands nothing in for it
START = "server's start"
SERVER = ("submission", "proposal", "cosignature taken in")
RANDOM = "at random"
VICTIMS = (POSTGRES, KEEPER, BACKENDS)
_PASSINGS = 3  # a step is killed at its first to third passing
_OWN_RECOVERY_S = {POSTGRES: 2.0, KEEPER: 2.0, BACKENDS: 20.0}
_MORE = 3  # submissions acknowledged, to tell that a server goes on
_LONGEST_PAUSE_S = 0.6


@dataclass
class Tally:
    """Kills that landed, by step, and what else there is to tell."""

    kills: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    height: int = 0
    acknowledged: int = 0
    seconds: float = 0.0

    @property
    def total(self) -> int:
        """All kills."""
        return sum(self.kills.values())

    def table(self) -> str:
        """A line for each step."""
        width = max(map(len, [*self.kills, *self.notes]), default=0)
        rows = [f"{name:<{width}} {count:>5}" for name, count in sorted(self.kills.items())]
        rows += [f"{name:<{width}} {count:>5}" for name, count in sorted(self.notes.items())]
        rows.append(
            f"{self.total} kills in {self.seconds:.0f} s "
            f"({self.seconds / max(self.total, 1):.2f} s each), {self.acknowledged} submissions "
            f"acknowledged, {self.height + 1} blocks: nothing lost, no fork"
        )
        return "\n".join(rows)


class Kills:
    """A consortium that is up, and whoever kills it."""

    def __init__(self, consortium: Consortium, seed: int, report: Report = lambda _: None) -> None:
        self._consortium, self._report = consortium, report
        self._random = random.Random(seed)
        self._checks = Checks(consortium)
        self._known: set[str] = set()
        self._order = 0
        self._by_hand = 0
        self._changes = 0
        self.tally = Tally()

    def run(self, count: int) -> Tally:
        """Kills at least ``count`` times, then checks all of it; everything is up afterwards."""
        began = time.monotonic()
        pending: list[Callable[[], None]] = []
        while self.tally.total < count:
            if not pending:
                pending = self._draw()
            pending.pop()()
            self._check()
        self.finish()
        self.tally.seconds = time.monotonic() - began
        return self.tally

    def finish(self) -> None:
        """Ends the client, and checks everything from the first block on, and the export."""
        self._consortium.running["client"].kill()
        self._consortium.running["client"].wait()
        self._known = self._consortium.settle(self._known, without=("client",))
        self.tally.height = self._checks.finish(self._known, self._consortium.genesis())
        self.tally.acknowledged = len(self._known)

    # what is killed next

    def _draw(self) -> list[Callable[[], None]]:
        """One round over all occasions, in an order that the seed gives: each first once."""
        occasions: list[tuple[int, Callable[[], None]]] = [
            (5, lambda: self.server(self._step(*SERVER))),
            (2, lambda: self.server(self._step(START))),
            (6, lambda: self.witness(self._step("co-signing"))),
            (1, lambda: self.database(self._step(*SERVER), some(self._random, VICTIMS))),
            (1, lambda: self.database(None, some(self._random, (POSTGRES, KEEPER)))),
            (3, self.at_random),
            (1, self.erasure),
            (1, self.change),
        ]
        firsts = [kill for _, kill in occasions]
        others = [kill for times, kill in occasions for _ in range(times - 1)]
        self._random.shuffle(firsts)
        self._random.shuffle(others)
        return others + firsts  # taken from the end

    def _step(self, *occasions: str) -> Step:
        """A step of these occasions that was killed least so far."""
        steps = [step for step in STEPS if step.occasion in occasions]
        least = min(self.tally.kills[str(step)] for step in steps)
        rare = [step for step in steps if self.tally.kills[str(step)] == least]
        return rare[self._random.randrange(len(rare))]

    def _order_for(self, name: str, step: Step, victim: str = SELF, passing: int = 1) -> Order:
        self._order += 1
        order = Order(self._order, str(step), passing, victim)
        order.write(self._consortium.orders(name))
        return order

    def _count(self, what: str) -> None:
        self.tally.kills[what] += 1
        self._report(f"{self.tally.total}: {what}")

    # the kills

    def server(self, step: Step) -> None:
        """Kills the server at a step; those of its start, while it starts again after a kill."""
        consortium, server = self._consortium, self._consortium.running["server"]
        if step.occasion != START:
            order = self._order_for("server", step, passing=self._random.randint(1, _PASSINGS))
            self._await_death(server, order)
        else:
            self._pause()
            server.kill()
            server.wait()
            self._count(f"{RANDOM}: server")
            if "password" in step.name:  # a home from before there was one, upgraded now
                (consortium.home / "postgres" / "application-password").unlink()
            order = self._order_for("server", step)
            self._await_death(consortium.start_server(order=True), order)
        self._start("server")

    def witness(self, step: Step) -> None:
        """Kills one member's witness at a step."""
        name = some(self._random, INSTITUTIONS)
        order = self._order_for(name, step, passing=self._random.randint(1, _PASSINGS))
        self._await_death(self._consortium.running[name], order)
        self._start(name)

    def database(self, step: Step | None, victim: str) -> None:
        """Kills a part of PostgreSQL under the living server, which then may end, or recover."""
        consortium, server = self._consortium, self._consortium.running["server"]
        if step is None:
            self._pause()
            assert kill_database(server.pid, victim)
            self._count(f"{RANDOM}: {victim}")
        else:
            order = self._order_for("server", step, victim)
            until(lambda: order in consortium.done("server"), f"{order} is passed")
            self._count(f"{step}, {victim} alone")
        before = len(consortium.acknowledged())
        deadline = time.monotonic() + _OWN_RECOVERY_S[victim]
        while server.poll() is None and len(consortium.acknowledged()) < before + _MORE:
            if time.monotonic() > deadline:
                assert victim != BACKENDS, f"the server does not go on: {server.said()[-3000:]}"
                self.tally.notes["(the server stayed, without a database)"] += 1
                server.kill()
                server.wait()
            time.sleep(TICK_S)
        if server.poll() is not None:
            self._start("server")

    def at_random(self) -> None:
        """Kills one to five processes at one moment."""
        names = ["server", "client", *INSTITUTIONS]
        count = 1 if self._random.random() < 0.5 else self._random.randint(2, 5)
        victims = self._random.sample(names, count)
        self._pause()
        children = [self._consortium.running[name] for name in victims]
        for child in children:
            child.kill()
        for child in children:
            assert child.wait() == KILLED, f"{child.name}: {child.said()}"
            kind = "witness" if child.name in INSTITUTIONS else child.name
            self._count(f"{RANDOM}: {kind}")
        for name in sorted(victims, key=names.index):
            self._start(name)

    def erasure(self) -> None:
        """Kills `consortium ledger erase` at a step; repeats it."""
        self._by_hand += 1
        digest = f"{self._by_hand:064x}"
        command = ("consortium", "ledger", "erase", digest, "--home", self._consortium.home)
        self._command("erase", self._step("erasure"), *command)
        self._consortium.acknowledge(digest)

    def change(self) -> None:
        """A change of the policy, or of one member's keys, with a kill in every command."""
        self._changes += 1
        if self._changes % 3:
            self.rotation(self._step("keys proposed"), self._step("keys taken"))
            return
        said = self._command(
            "propose", self._step("policy proposed"), "consortium", "policy", "set", "--pool",
            str(1000 + self._changes), "--home", self._consortium.home, "--format", "json",
        )  # fmt: skip
        self._approve(json.loads(said)["change"])

    def rotation(self, proposed: Step, taken: Step) -> None:
        """A member's new keys, with a kill in every command, and where they come into force."""
        consortium, kept = self._consortium, self._consortium.hospital(ROTATING)
        said = self._command("propose", proposed, *self._rotate())
        witness, order = consortium.running[ROTATING], self._order_for(ROTATING, taken)
        self._approve(json.loads(said)["change"])
        self._await_death(witness, order)
        self._start(ROTATING)
        until(lambda: not (kept / "keys.next").exists(), "the new keys are taken")

    def half_rotation(self, proposed: Step) -> None:
        """Kills `hospital-agent keys rotate`, and leaves it at that."""
        order = self._order_for("propose", proposed)
        self._await_death(self._consortium.start("propose", *self._rotate(), order=True), order)

    def _rotate(self) -> tuple[str, ...]:
        folder = str(self._consortium.hospital(ROTATING))
        return (
            "hospital-agent", "keys", "rotate", "--home", folder, "--api", self._consortium.api,
            "--format", "json",
        )  # fmt: skip

    def _approve(self, change: str) -> None:
        """People at a quorum of members approve, with a kill in every command."""
        consortium = self._consortium
        for name in INSTITUTIONS[:QUORUM]:
            self._await_change(name, change)
            self._command(
                "approve", self._step("approval"), "hospital-agent", "members", "approve",
                change, "--home", consortium.hospital(name), "--api", consortium.api,
                "--as", "Dr. Ada Example", "--disclose",
            )  # fmt: skip

    def _await_change(self, institution: str, change: str) -> None:
        """Waits until a member's own copy shows a change that is open."""

        def known() -> bool:
            listed = self._consortium.command(
                "list", "hospital-agent", "members", "list", "--home",
                self._consortium.hospital(institution), "--format", "json",
            )  # fmt: skip
            return change in listed

        until(known, f"{institution} knows change {change}")

    def _command(self, name: str, step: Step, program: str, *arguments: object) -> str:
        """Runs a command that is killed at a step, then again to its end."""
        words = [str(argument) for argument in arguments]
        order = self._order_for(name, step)
        self._await_death(self._consortium.start(name, program, *words, order=True), order)
        again = self._consortium.start(name, program, *words)
        # What was sent may have decided the change meanwhile: then it is not open any more.
        decided = step.name == "sent" and again.wait() == 1 and "ChangeUnknown" in again.said()
        assert again.wait() == 0 or decided, f"{name}, again: {again.said()}"
        return again.said()

    # between them

    def _await_death(self, child: Child, order: Order) -> None:
        assert child.wait() == KILLED, f"{child.name} at {order}: {child.said()[-3000:]}"
        assert order in self._consortium.done(child.name), f"{order} was not what killed it"
        self._count(order.step)

    def _start(self, name: str) -> None:
        if name == "server":
            self._consortium.start_server()
            self._consortium.await_server()
        elif name == "client":
            self._consortium.start_client()
        else:
            self._consortium.start_witness(name)

    def _pause(self) -> None:
        """A random moment."""
        time.sleep(self._random.random() * _LONGEST_PAUSE_S)

    def _check(self) -> None:
        now = self._consortium.settle(self._known)
        self._checks.check(now - self._known)
        self._known = now
