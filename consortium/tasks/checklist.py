"""What a task needs before a job may train it: looked at one by one, each with what to do."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from consortium import weights as weight_forms
from consortium.tasks.errors import TaskError
from consortium.tasks.image import IMAGE
from consortium.tasks.schema import CLAMP, Feature
from consortium.tasks.task import JUDGEABLE, Site, Task
from consortium.tasks.thresholds import calibration_of
from privacy.errors import PrivacyError
from sml.errors import MappingInvalid

if TYPE_CHECKING:
    from torch import Tensor

State = Literal["ok", "warn", "missing"]
_PATIENTS: Final = 8
_MOST_AT_CLAMP: Final = 0.02


@dataclass(frozen=True)
class Item:
    """One line: what was looked at, what was found, and what to do about it."""

    name: str
    state: State
    found: str
    fix: str = ""


def checklist(task: Task, data_dir: Path | None = None) -> list[Item]:
    """All that a task needs, in the order in which one writes it."""
    return [_looked(name, look, task, data_dir) for name, look in _LOOKS.items()]


Look = Callable[[Task, Path | None], Item]


def _looked(name: str, look: Look, task: Task, data_dir: Path | None) -> Item:
    try:
        return look(task, data_dir)
    except (TaskError, PrivacyError, MappingInvalid) as error:
        return Item(name, "missing", f"{error.code}: {error.what}", error.resolve)
    except Exception as error:  # of the task's own code, whatever it is
        return Item(
            name, "missing", f"{type(error).__name__}: {error}", "correct the task's own code"
        )


def _schema(task: Task, data_dir: Path | None) -> Item:
    if "TODO" in task.title:
        return Item("inputs", "missing", "its title is still TODO", "say what people read of it")
    names = [*task.inputs.columns, task.label]
    if len(set(names)) < len(names):
        return Item("inputs", "missing", "two columns have one name", "name each apart")
    for feature in task.features:
        if trouble := _trouble(feature):
            return Item("inputs", "missing", f"{feature.name}: {trouble}", "correct its constants")
    said = f"{len(task.features)} columns" if task.features else IMAGE
    return Item("inputs", "ok", f"{said}, {' x '.join(map(str, task.inputs.shape))} numbers")


def _trouble(feature: Feature) -> str:
    if feature.levels:
        return "" if len(set(feature.levels)) == len(feature.levels) > 1 else "too few levels"
    if not feature.low < feature.high:
        return "its bounds are not in order"
    if not feature.low <= feature.centre <= feature.high:
        return "its centre is not possible"
    return "" if feature.scale > 0 else "its scale is not above 0"


def _model(task: Task, data_dir: Path | None) -> Item:
    import torch

    model, again = task.model(0), task.model(0)
    pairs = zip(model.state_dict().items(), again.state_dict().values(), strict=True)
    if not all(torch.equal(one, other) for (_, one), other in pairs):
        return Item(
            "model", "missing", "it differs for one seed",
            "draw its weights from a generator that the seed starts",
        )  # fmt: skip
    with torch.no_grad():
        logits = model(_made_up(task))
    if logits.shape != (_PATIENTS, 1) or logits.dtype != torch.float32:
        return Item(
            "model", "missing", f"it gives {list(logits.shape)}, {logits.dtype}",
            f"one logit for each patient: [{_PATIENTS}, 1], float32",
        )  # fmt: skip
    stacked = weight_forms.stack([weight_forms.of_module(model)] * 2)
    weight_forms.predictions(model, stacked, _made_up(task))  # as validators compare models
    size = f"{sum(p.numel() for p in model.parameters())} parameters"
    if float(logits.abs().max()) > 1e-6:
        return Item(
            "model", "warn", f"{size}; its start does not predict one half",
            "let its last layer start at zero: with noise that learns faster",
        )  # fmt: skip
    return Item("model", "ok", f"{size}; its start predicts one half")


def _mapping(task: Task, data_dir: Path | None) -> Item:
    from sml.model_groups import groups_for

    groups = groups_for(task.model(0), example=task.example())
    if not all(group.exact for group in groups):
        return Item(
            "mapping", "missing", "a group does not un-map to the bit", "use permutations only"
        )
    said = ", ".join(f"{group.name} ({group.size})" for group in groups)
    return Item("mapping", "ok", said)


def _privacy(task: Task, data_dir: Path | None) -> Item:
    import torch

    from privacy import closed_form
    from privacy.noise import SecureNoise
    from privacy.training import train

    x, y = _made_up(task), (torch.arange(_PATIENTS) % 2).float()
    terms = task.terms(task.recipe.rounds, Decimal(1), task.delta, _PATIENTS)
    model = task.model(0)
    train(model, task.loss, x, y, terms, SecureNoise())
    way = "in closed form" if closed_form.supports(model, x) else "by Opacus"
    return Item("privacy", "ok", f"it trains with noise, gradients of patients {way}")


def _data(task: Task, data_dir: Path | None) -> Item:
    sites = task.sites(data_dir)
    for site in sites:
        task.check(site.frame)
    blind = [site.id for site in sites if not _judges(task, site)]
    if blind:
        return Item(
            "data", "warn", f"{len(sites)} hospitals; too few to judge: {', '.join(blind)}",
            f"a validation part needs {JUDGEABLE} patients of each outcome",
        )  # fmt: skip
    return Item("data", "ok", f"{len(sites)} hospitals, {sum(len(s.frame) for s in sites)} rows")


def _judges(task: Task, site: Site) -> bool:
    outcomes = task.outcomes(task.split(site, 0).validation)
    return bool(min(outcomes.sum(), (1 - outcomes).sum()) >= JUDGEABLE)


def _ranges(task: Task, data_dir: Path | None) -> Item:
    if not task.features:
        return Item("ranges", "ok", "each image is scaled by itself")
    encoded = np.concatenate([task.encode(site.frame) for site in task.sites(data_dir)])
    clamped = (np.abs(encoded) >= CLAMP).mean(axis=0)
    names = [name for feature in task.features for name in [feature.name] * feature.width]
    worst = int(clamped.argmax())
    said = f"at most {100 * clamped[worst]:.1f} % of a column at its end ({names[worst]})"
    if clamped[worst] > _MOST_AT_CLAMP:
        return Item("ranges", "warn", said, "choose a wider scale, from public sources")
    return Item("ranges", "ok", said)


def _calibration(task: Task, data_dir: Path | None) -> Item:
    counts = calibration_of(task.name, task.folder)["counts"]
    print_ = task.fingerprint()
    return Item("calibration", "ok", f"{counts['steps']} honest updates; fingerprint {print_[:16]}")


def _tests(task: Task, data_dir: Path | None) -> Item:
    if task.folder is None:
        return Item("tests", "ok", "among the installation's own")
    found = list(task.folder.glob("test_*.py"))
    if not found:
        return Item("tests", "missing", "no test_….py", "write one; `task new` shows a start")
    return Item("tests", "ok", f"pytest {task.folder}")


_LOOKS: Final[dict[str, Look]] = {
    "inputs": _schema, "model": _model, "mapping": _mapping, "privacy": _privacy, "data": _data,
    "ranges": _ranges, "calibration": _calibration, "tests": _tests,
}  # fmt: skip


def _made_up(task: Task) -> "Tensor":
    import torch

    generator = torch.Generator().manual_seed(0)
    return torch.randn(_PATIENTS, *task.inputs.shape, generator=generator).clamp(-CLAMP, CLAMP)
