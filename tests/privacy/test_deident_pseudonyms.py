"""Pseudonyms and date shifts by key, and what becomes coarser."""

import stat
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from privacy.deidentification.generalisation import RESTRICTED_ZIPS, ages, years, zips
from privacy.deidentification.identifiers import scan
from privacy.deidentification.pseudonyms import MOST_DAYS, PseudonymKey
from privacy.errors import PseudonymKeyInvalid

KEY = PseudonymKey(bytes(range(32)))


def test_a_pseudonym_depends_on_patient_and_key_and_shows_neither() -> None:
    given = [KEY.pseudonym(f"MRN{n}") for n in range(200)]
    assert len({*given}) == 200
    assert given[7] == PseudonymKey(bytes(range(32))).pseudonym("MRN7")
    assert given[7] != PseudonymKey.make().pseudonym("MRN7")
    assert not any("MRN" in text for text in given)
    assert scan([pd.DataFrame({"p": given}, dtype=object)]) == ()
    assert "\\x" not in repr(KEY)
    assert str(KEY._secret) not in repr(KEY)


def test_uids_are_uids_and_keyed() -> None:
    one, two = KEY.uid("1.2.3"), KEY.uid("1.2.4")
    assert one != two != PseudonymKey.make().uid("1.2.4")
    assert one.startswith("2.25.")
    assert len(one) <= 64


def test_dates_of_a_patient_move_together_and_never_stay() -> None:
    shifts = [KEY.shift_days(f"p{n}") for n in range(3_000)]
    assert 0 not in shifts
    assert (min(shifts), max(shifts)) == (-MOST_DAYS, MOST_DAYS)
    assert len({*shifts}) > 700
    first, second = date(2020, 2, 28), date(2021, 3, 1)
    moved = KEY.shifted("p1", first), KEY.shifted("p1", second)
    assert moved[1] - moved[0] == second - first
    assert moved[0] == PseudonymKey(bytes(range(32))).shifted("p1", first) != first


def test_the_keys_file_is_made_once_closed_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "heart.key"
    key = PseudonymKey.open(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert PseudonymKey.open(path).pseudonym("a") == key.pseudonym("a")
    assert [p.name for p in tmp_path.iterdir()] == ["heart.key"]
    path.chmod(0o644)
    with pytest.raises(PseudonymKeyInvalid, match="others"):
        PseudonymKey.open(path)
    path.chmod(0o600)
    for content in ("", "00ff", "not hexadecimal"):
        path.write_text(content)
        with pytest.raises(PseudonymKeyInvalid):
            PseudonymKey.open(path)


def test_ages_over_89_are_one_category() -> None:
    texts = pd.Series(["63", "89", "89.9", "90", "93", "104", None, "old", "63.7"], dtype=object)
    assert ages(texts).tolist() == ["63", "89", "89", "90", "90", "90", None, "old", "63"]
    assert ages(pd.Series([12.0, 95.0])).tolist() == [12.0, 90.0]
    same = pd.Series(["1", "2"], dtype=object)
    assert ages(same) is same


def test_zip_codes_keep_three_digits_where_many_people_live() -> None:
    given = pd.Series(["94110", "94110-1234", "03601", "89301", "8001", None, "x"], dtype=object)
    assert zips(given).tolist() == ["941", "941", "000", "000", None, None, None]
    assert len(RESTRICTED_ZIPS) == 17


def test_dates_keep_their_year() -> None:
    given = pd.Series(["2021-03-04", "03/04/2021", "4 March 1949", "2020", None, "x", "20210304"])
    assert years(given.astype(object)).tolist() == [
        "2021",
        "2021",
        "1949",
        "2020",
        None,
        None,
        "2021",
    ]
