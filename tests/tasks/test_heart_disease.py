"""The heart-disease task: FLamby's rows and test parts; damaged files are refused by name."""

import shutil
from pathlib import Path

import pytest
from heart_data import HEART_DATA, needs_heart_data

from consortium import data_fetch, tasks
from consortium.tasks.errors import DataCorrupt, DataMissing, DataUnavailable, TaskUnknown
from consortium.tasks.heart_disease import SOURCES

TASK = tasks.get("heart-disease")
VA = "processed.va.data"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for source in SOURCES:
        shutil.copyfile(HEART_DATA / source.file, tmp_path / source.file)
    return tmp_path


@needs_heart_data
def test_rows_and_test_parts_are_flamby_s() -> None:
    sites = TASK.sites(HEART_DATA)
    assert [site.id for site in sites] == ["cleveland", "budapest", "zurich-basel", "long-beach"]
    assert [len(site.frame) for site in sites] == [303, 261, 46, 130]
    assert [site.declared_patients for site in sites] == [160, 140, 25, 70]
    splits = [TASK.split(site, 0) for site in sites]
    assert [len(split.test) for split in splits] == [104, 89, 16, 45]
    assert [len(s.train) + len(s.validation) for s in splits] == [199, 172, 30, 85]
    for site, split in zip(sites, splits, strict=True):
        TASK.check(site.frame)
        other = TASK.split(site, 1)
        assert other.test.equals(split.test)
        assert not other.validation.equals(split.validation)
        assert not set(split.train.index) & set(split.validation.index)
    # FLamby's Swiss training part is 30 positives of 30: that hospital cannot judge.
    sick = [(int(s.validation["disease"].sum()), len(s.validation)) for s in splits]
    assert [min(ill, of - ill) >= 5 for ill, of in sick] == [True, True, False, True]


@needs_heart_data
def test_cholesterol_of_zero_is_missing_everywhere() -> None:
    swiss = TASK.sites(HEART_DATA)[2].frame
    assert swiss["chol"].isna().all()
    assert (TASK.encode(swiss)[:, 3] == 0).all()


@needs_heart_data
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda b: b[: len(b) // 2], "columns|rows"),
        (lambda b: b"".join(b.splitlines(keepends=True)[:-3]), "197 rows"),
        (lambda b: b.replace(b",", b";", 1), "line 1 has 13 columns"),
        (lambda b: b"\n".join(r + b",9" for r in b.splitlines()), "line 1 has 15 columns"),
        (lambda b: b.replace(b"63,1", b"old,1", 1), "column age is not a number"),
        (lambda b: b.replace(b"63,1", b"64,1", 1), "md5"),
        (lambda b: b"", "0 rows"),
        (lambda b: b"\xff\xfe" + b, "column age is not a number"),
    ],
)
def test_damaged_files_are_refused(copy: Path, damage: object, said: str) -> None:
    (copy / VA).write_bytes(damage((copy / VA).read_bytes()))  # type: ignore[operator]
    with pytest.raises(DataCorrupt, match=said) as caught:
        TASK.sites(copy)
    assert VA in caught.value.what


@needs_heart_data
def test_other_line_endings_are_the_same_file(copy: Path) -> None:
    content = (copy / VA).read_bytes()
    (copy / VA).write_bytes(content.replace(b"\n", b"\r\n"))
    assert TASK.sites(copy)[3].frame.equals(TASK.sites(HEART_DATA)[3].frame)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"processed\.cleveland\.data"):
        TASK.sites(tmp_path)
    with pytest.raises(DataMissing, match="folder"):
        TASK.sites()
    with pytest.raises(TaskUnknown):
        TASK.sites(tmp_path, hospitals=3)


@needs_heart_data
def test_fetching_checks_writes_whole_files_and_keeps_right_ones(tmp_path: Path) -> None:
    asked = []

    def archive(address: str) -> bytes:
        assert address.startswith("https://")
        asked.append(address)
        return (HEART_DATA / address.rsplit("/", 1)[1]).read_bytes()

    paths = data_fetch.fetch(tmp_path / "heart", archive)
    assert [path.name for path in paths] == [source.file for source in SOURCES]
    assert len(TASK.sites(tmp_path / "heart")) == 4
    data_fetch.fetch(tmp_path / "heart", archive)
    assert len(asked) == 4
    assert sorted(p.name for p in (tmp_path / "heart").iterdir()) == sorted(p.name for p in paths)


def test_offline_and_changed_archives_leave_nothing_behind(tmp_path: Path) -> None:
    def offline(address: str) -> bytes:
        raise TimeoutError

    with pytest.raises(DataUnavailable, match="TimeoutError"):
        data_fetch.fetch(tmp_path, offline)
    with pytest.raises(DataCorrupt):
        data_fetch.fetch(tmp_path, lambda address: b"<html>moved</html>")
    assert not list(tmp_path.iterdir())
