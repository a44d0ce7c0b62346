"""Cost of private training: closed form and Opacus against the same steps without privacy."""

import time
from collections.abc import Callable
from decimal import Decimal
from unittest import mock

import torch
from torch import nn

from consortium import tasks
from privacy import closed_form
from privacy.noise import SecureNoise
from privacy.training import train
from tests.benchmarks.run import Figure

REPEATS = 40


def measure() -> dict[str, Figure]:
    """Seconds a full-batch step, on the largest hospital of the breast-cancer task."""
    torch.set_num_threads(1)
    task = tasks.get("breast-cancer")
    site = task.sites()[0]
    x, y = task.tensors(task.split(site, 0).train)
    steps = 50
    terms = task.terms(1, Decimal(1), Decimal("0.00001"), site.declared_patients, steps)
    figures = {}
    for name, model in (
        ("logistic", nn.Linear(task.width, 1)),
        ("mlp", nn.Sequential(nn.Linear(task.width, 32), nn.Tanh(), nn.Linear(32, 1))),
    ):

        def private(model: nn.Module = model) -> None:
            train(model, task.loss, x, y, terms, SecureNoise())

        def plain(model: nn.Module = model) -> None:
            wide, features, labels = model.double(), x.double(), y.double()
            optimizer = torch.optim.SGD(wide.parameters(), lr=0.1)
            for _ in range(steps):
                optimizer.zero_grad()
                task.loss(wide(features), labels).mean().backward()
                optimizer.step()
            model.float()

        closed = _seconds(private) / steps
        without = _seconds(plain) / steps
        with mock.patch.object(closed_form, "supports", return_value=False):
            hooks = _seconds(private, 5) / steps
        figures[f"privacy.{name}.step"] = Figure(closed, "s", "non-private", without)
        figures[f"privacy.{name}.step_opacus"] = Figure(hooks, "s", "non-private", without)
    return figures


def _seconds(action: Callable[[], None], repeats: int = REPEATS) -> float:
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)
