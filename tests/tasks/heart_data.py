"""Where the tests find the UCI heart files, which the repository does not contain."""

import os
from pathlib import Path

import pytest

_BESIDE_THE_REPOSITORY = Path(__file__).parents[3] / "shared" / "data" / "heart"
HEART_DATA = Path(os.environ.get("MEDPOLE_HEART_DATA", _BESIDE_THE_REPOSITORY))

needs_heart_data = pytest.mark.skipif(
    not (HEART_DATA / "processed.va.data").is_file(),
    reason="the UCI heart files are not there: fetch them and set MEDPOLE_HEART_DATA",
)
