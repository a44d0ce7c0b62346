"""Sums here are small: a second thread costs more than it does, beside other tests most of all."""

from collections.abc import Iterator

import pytest

from privacy.budget import new_cohort_id


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cohort() -> str:
    return new_cohort_id()
