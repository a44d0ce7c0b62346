"""The breast-cancer task: hospitals of public shares, parts that can judge."""

import pandas as pd
import pytest

from consortium import tasks
from consortium.tasks.errors import TaskUnknown
from consortium.tasks.simulated import shares

TASK = tasks.get("breast-cancer")


def test_four_hospitals_share_all_patients() -> None:
    sites = TASK.sites()
    assert [site.id for site in sites] == [f"hospital-{i}" for i in (1, 2, 3, 4)]
    assert sum(len(site.frame) for site in sites) == 569
    for site, percent in zip(sites, (35, 28, 22, 15), strict=True):
        assert abs(len(site.frame) - 5.69 * percent) < 2
        assert 0.34 < site.frame["malignant"].mean() < 0.40
        TASK.check(site.frame)
    everyone = pd.concat([site.frame for site in sites])
    assert len(everyone.drop_duplicates()) == 569


@pytest.mark.parametrize("hospitals", [*range(1, 14), 64])
def test_any_number_of_hospitals_up_to_sixty_four(hospitals: int) -> None:
    sites = TASK.sites(hospitals=hospitals)
    sizes = [len(site.frame) for site in sites]
    assert len(sites) == hospitals
    assert sum(sizes) == 569
    assert hospitals > 12 or sizes == sorted(sizes, reverse=True)
    assert hospitals <= 12 or max(sizes) - min(sizes) <= 2
    for site in sites:
        split = TASK.split(site, 0)
        assert min(len(split.train), len(split.validation), len(split.test)) > 0
        assert abs(len(split.train) - site.declared_patients) <= 0.2 * len(split.train) + 3


@pytest.mark.parametrize("hospitals", [0, 65, -1, 2.0])
def test_other_numbers_are_refused(hospitals: int) -> None:
    with pytest.raises(TaskUnknown):
        TASK.sites(hospitals=hospitals)


def test_shares_are_whole() -> None:
    assert all(abs(sum(shares(n, "breast-cancer")) - 1) < 1e-12 for n in (*range(1, 14), 64))


def test_what_is_declared_does_not_follow_from_the_patients() -> None:
    assert [site.declared_patients for site in TASK.sites()] == [130, 105, 80, 55]


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_disjoint_repeatable_and_can_judge(seed: int) -> None:
    for site in TASK.sites():
        split = TASK.split(site, seed)
        parts = (split.train, split.validation, split.test)
        indices = [set(part.index) for part in parts]
        assert sum(map(len, indices)) == len(set().union(*indices)) == len(site.frame)
        for part in (split.validation, split.test):
            assert part["malignant"].value_counts().min() >= 5
        assert split.train.equals(TASK.split(site, seed).train)
        assert not split.train.equals(TASK.split(site, seed + 1).train)
