"""All results that follow from an export, one canonical line each; also a program of its own."""

import json
import os
import sys
from pathlib import Path

from threadpoolctl import threadpool_info, threadpool_limits

from ledger import canonical


def lines(folder: Path) -> list[bytes]:
    """What every round comes to: medians, credits, the model's hash, and all else of a result."""
    from consortium.audit import derived_results

    return [canonical.dumps(derived.body()) for _, derived in derived_results(folder)]


def threads() -> list[int]:
    """Of PyTorch, and of each pool that a library has: OpenMP's, a BLAS's."""
    import torch

    return [torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info())]


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    with threadpool_limits(1):
        found = [line.decode() for line in lines(Path(sys.argv[1]))]
        print(json.dumps({"process": os.getpid(), "threads": threads(), "lines": found}))
