"""Made-up patients who fit the heart-disease task, and the commands that look at them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from commands import Done, call

TASK = "heart-disease"


def heart(rows: int = 60, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.integers(30, 85, rows), "sex": rng.integers(0, 2, rows),
            "trestbps": rng.integers(95, 180, rows), "chol": rng.integers(150, 400, rows),
            "fbs": rng.integers(0, 2, rows), "thalach": rng.integers(80, 190, rows),
            "exang": rng.integers(0, 2, rows), "oldpeak": rng.integers(0, 40, rows) / 10,
            "cp": rng.integers(1, 5, rows), "restecg": rng.integers(0, 3, rows),
            "disease": np.arange(rows) % 2,
        }
    )  # fmt: skip


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def check(source: str | Path, *more: str | Path) -> Done:
    return call("hospital-agent", "data", "check", "--source", source, "--task", TASK, *more)


def report(source: str | Path, *more: str | Path) -> dict[str, Any]:
    done = check(source, *more, "--format", "json")
    assert done.out, done.err
    found: dict[str, Any] = json.loads(done.out)
    assert done.code == (0 if found["usable"] else 1)
    return found


def codes(found: dict[str, Any]) -> list[str]:
    return [problem["code"] for problem in found["problems"]]
