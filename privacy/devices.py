"""Where training computes: the CPU, or a GPU that torch can reach."""

import re
from typing import TYPE_CHECKING

from privacy.errors import DeviceMissing

if TYPE_CHECKING:
    import torch

CPU = "cpu"


def device_of(name: str) -> "torch.device":
    """The device of this name: "cpu", "cuda" or "cuda:N". Raises DeviceMissing.

    Only these: sums are in float64, which Apple's GPUs do not have.
    """
    import torch

    if name == CPU:
        return torch.device(name)
    index = re.fullmatch(r"cuda(?::(\d{1,3}))?", name)
    if index is None:
        raise DeviceMissing(
            f"{name!r} is no device that training knows",
            "name cpu, cuda, or cuda:N for the Nth GPU",
        )
    if not torch.cuda.is_available():
        raise DeviceMissing(
            f"{name} was asked for, and torch {torch.__version__} reaches no GPU",
            "install NVIDIA's driver and a torch built for CUDA (python -m torch.utils.collect_env "
            "shows both), or train on the CPU: --device cpu",
        )
    if int(index[1] or 0) >= torch.cuda.device_count():
        raise DeviceMissing(
            f"{name} was asked for, and there are {torch.cuda.device_count()} GPUs here",
            "count from 0, or name cuda for the first one",
        )
    return torch.device(name)
