"""Real hospitals, dealt out over more or fewer for the lab (`consortium.lab.hospitals`)."""

import pytest
from heart_data import HEART_DATA, needs_heart_data

from consortium import tasks
from consortium.lab.hospitals import sites_of


@needs_heart_data
@pytest.mark.parametrize("hospitals", [3, 4, 12])
def test_real_hospitals_are_divided_and_nobody_is_in_two(hospitals: int) -> None:
    task = tasks.get("heart-disease")
    sites = sites_of(task, HEART_DATA, hospitals)
    whole = {site.id: site for site in task.sites(HEART_DATA)}
    assert len({site.id for site in sites}) == hospitals
    of = {name: [s for s in sites if s.id.startswith(name)] for name in whole}
    for name, parts in of.items():
        rows = sum(len(part.frame) for part in parts)
        assert rows in (0, len(whole[name].frame))
        ill = [part.frame[task.label].mean() for part in parts]
        assert not parts or max(ill) - min(ill) < 0.1
    assert sum(len(s.frame) for s in sites) == (740 if hospitals > 3 else 610)
