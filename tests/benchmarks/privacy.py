"""Cost of private training: a step of each trainer against the same step without privacy.

A step without privacy is what anybody would write: the mean loss, SGD. `dp.step_ratio_X` is against
one in float64, in which private sums are; `dp.step_ratio_X_float32` against one in float32. All run
in turns, and the median of the turns counts: CPU seconds of the one thread, so that other work on
the machine tells little. `X_2_threads`, and with a GPU `X_cuda`: seconds of the clock.
"""

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import torch
from torch import Tensor, nn
from torch.nn import functional

from consortium import tasks
from privacy import opacus_training
from privacy.closed_form import PerPatientLoss
from privacy.contract import PrivacyTerms
from privacy.noise import SecureNoise
from privacy.training import ClippedSum, clipped_gradient, descend, trainable
from tests.benchmarks.run import Figure

TURNS = 40


def measure() -> dict[str, Figure]:
    """Ratios, and seconds a full-batch step: the breast-cancer task's largest hospital; images.

    `cnn` is of the size of a task on small images: 1,441 parameters, 300 patients of 24 x 24.
    `cnn_wide` has 105,442 parameters; 64 patients of 28 x 28.
    """
    torch.set_num_threads(1)
    task = tasks.get("breast-cancer")
    site = task.sites()[0]
    x, y = task.tensors(task.split(site, 0).train)
    terms = task.terms(1, Decimal(1), Decimal("0.00001"), site.declared_patients, 20)
    small = _cnn(), _binary, _images(300, 24), (torch.arange(300) % 2).float(), terms, 1
    wide = _cnn_wide(), _cross_entropy, _images(64, 28), torch.arange(64) % 2, terms, 1
    figures = {
        **_figures("logistic", task.model(), task.loss, x, y, terms),
        **_figures("mlp", _mlp(x.shape[1]), task.loss, x, y, terms),
        **_figures("cnn", *small),
        **_figures("cnn_wide", *wide),
    }
    torch.set_num_threads(2)
    figures |= _figures("cnn_2_threads", *small)
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        figures |= _figures("cnn_cuda", *small, "cuda")
        figures |= _figures("cnn_wide_cuda", *wide, "cuda")
    return figures


def _figures(
    name: str, model: nn.Module, loss: PerPatientLoss, x: Tensor, y: Tensor, terms: PrivacyTerms,
    steps: int = 20, device: str = "cpu",
) -> dict[str, Figure]:  # fmt: skip
    """`own`: the trainer that `train` takes; the others by Opacus on the same model."""
    model, x, y = model.to(device), x.to(device), y.to(device)
    wide, labels = x.double(), y.double() if y.is_floating_point() else y
    own, ghost, hooked = (_copy(model).double() for _ in range(3))
    ghosts, hooks = opacus_training.wrap_ghost(ghost), opacus_training.wrap(hooked)
    clip, clipping = float(terms.clip), terms.clipping
    sums: dict[str, tuple[nn.Module, ClippedSum]] = {
        "own": (own, clipped_gradient(own, loss, wide, labels, terms)),
        "ghost": (
            ghost,
            lambda _: opacus_training.ghost_sum(ghosts, loss, wide, labels, clip, clipping),
        ),
        "opacus_hooks": (
            hooked,
            lambda _: opacus_training.clipped_sum(hooks, loss, wide, labels, clip, clipping),
        ),
    }
    turns: dict[str, tuple[int, Callable[[int], None]]] = {
        "float32": (steps, _plain(_copy(model), loss, x, y)),
        "float64": (steps, _plain(_copy(model).double(), loss, wide, labels)),
    }
    for way, (trained, gradient) in sums.items():
        turns[way] = (steps if way == "own" else 1, _private(trained, gradient, terms, len(x)))
    alone = device == "cpu" and torch.get_num_threads() == 1
    seconds = _medians(turns, time.thread_time if alone else time.perf_counter)
    narrow, plain = seconds.pop("float32"), seconds.pop("float64")
    figures = {
        f"dp.step.{name}.{way}": Figure(taken, "s", "non-private", plain)
        for way, taken in seconds.items()
    }
    figures[f"dp.step_ratio_{name}"] = Figure(seconds["own"] / plain, "x")
    figures[f"dp.step_ratio_{name}_float32"] = Figure(seconds["own"] / narrow, "x")
    for way in ("ghost", "opacus_hooks"):
        figures[f"dp.step_ratio_{name}_{way}"] = Figure(seconds[way] / plain, "x")
    return figures


def _private(
    model: nn.Module, gradient: ClippedSum, terms: PrivacyTerms, patients: int
) -> Callable[[int], None]:
    parameters, noise = trainable(model), SecureNoise()

    def run(steps: int) -> None:
        descend(parameters, gradient, replace(terms, steps=steps), noise, (patients,))

    return run


def _plain(model: nn.Module, loss: PerPatientLoss, x: Tensor, y: Tensor) -> Callable[[int], None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            loss(model(x), y).mean().backward()
            optimizer.step()

    return run


def _medians(
    turns: dict[str, tuple[int, Callable[[int], None]]], clock: Callable[[], float]
) -> dict[str, float]:
    """Seconds a step of each, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in turns}
    for turn in range(TURNS + 1):
        for name, (steps, run) in turns.items():
            _wait()
            start = clock()
            run(steps)
            _wait()
            if turn:  # the first one warms up
                times[name].append((clock() - start) / steps)
    return {name: statistics.median(taken) for name, taken in times.items()}


def _wait() -> None:
    """For the GPU, which works on while the CPU goes on."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _copy(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model)


def _mlp(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 32), nn.Tanh(), nn.Linear(32, 1))


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2), nn.GroupNorm(8, 8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3), nn.GroupNorm(8, 16), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(16, 1),
    )  # fmt: skip


def _cnn_wide() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 2),
    )  # fmt: skip


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(logits, y, reduction="none")


def _binary(logits: Tensor, y: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits.squeeze(1), y, reduction="none")


def _images(n: int, size: int) -> Tensor:
    return torch.randn(n, 1, size, size, generator=torch.Generator().manual_seed(0))
