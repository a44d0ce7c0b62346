"""Mapping files: names, units, codes and several rows of a patient; nothing is guessed."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import refused
from heart_table import TASK, check, codes, heart, report, written

from consortium import tasks
from hospital_agent import repeats
from hospital_agent.errors import AgentError, MappingFileInvalid, UnitUnconvertible, UnitUnknown
from hospital_agent.mapping import Mapping, read_mapping
from hospital_agent.repeats import Repeats
from hospital_agent.sources.frame import FrameSource
from hospital_agent.table import Reading
from hospital_agent.units import amount, conversion

SECRET = "Wyrzykowski"


def mapped(frame: pd.DataFrame, tmp_path: Path, text: str) -> pd.DataFrame:
    """The numbers that a table becomes; all of it has to fit."""
    task = tasks.get(TASK)
    mapping = read_mapping(written(tmp_path / "m.toml", text), task)
    reading = Reading(task, FrameSource(frame), mapping)
    numbers = pd.concat([rows.numbers for rows in reading.chunks()], ignore_index=True)
    assert [error for name in reading.wanted for error in reading.problems(name)] == []
    return numbers


def test_names_units_codes_and_thresholds(tmp_path: Path) -> None:
    frame = heart()
    theirs = frame.rename(columns={"chol": "cholesterol", "sex": "gender", "fbs": "glucose"})
    theirs["cholesterol"] = frame["chol"] / 38.665
    theirs["gender"] = frame["sex"].map({1: "male", 0: "female"})
    theirs["glucose"] = frame["fbs"].map({1: 7.1, 0: 5.0})
    theirs["trestbps"] = frame["trestbps"] * 0.133322
    theirs["age"] = frame["age"] * 12
    theirs["surname"] = SECRET
    numbers = mapped(
        theirs, tmp_path,
        """
        [columns.chol]
        from = "cholesterol"
        unit = "mmol/L"
        molar_mass = "386.65 g/mol"
        [columns.sex]
        from = "gender"
        values = { male = 1, female = 0 }
        [columns.fbs]
        from = "glucose"
        unit = "mmol/L"
        molar_mass = "180.16 g/mol"
        above = "120 mg/dL"
        low = "20 mg/dL"
        high = "1500 mg/dL"
        [columns.trestbps]
        from = "trestbps"
        unit = "kPa"
        [columns.age]
        from = "age"
        unit = "mo"
        """,
    )  # fmt: skip
    expected = frame.astype(float)
    pd.testing.assert_frame_equal(numbers[list(frame)], expected, rtol=1e-4, check_dtype=False)


def test_behind_a_threshold_a_code_for_a_missing_value_is_no_measurement(tmp_path: Path) -> None:
    frame = heart().astype(object)
    frame["glucose"] = [80.0, 150.0] * 30
    frame.loc[[0, 1, 2], "glucose"] = [0, 999_999, -9]
    source = tmp_path / "t.csv"
    frame.drop(columns="fbs").to_csv(source, index=False)
    section = '[columns.fbs]\nfrom = "glucose"\nabove = "120 mg/dL"\n'
    bounds = 'low = "20 mg/dL"\nhigh = "1500 mg/dL"\n'
    done = check(source, "--mapping", written(tmp_path / "m.toml", section + bounds))
    assert done.code == 1
    (said,) = [line for line in done.out.splitlines() if line.startswith("problem: fbs")]
    assert "are not from low to high" in said
    for wrong in (section, section + 'low = "20 mg/dL"\n', '[columns.fbs]\nfrom = "g"\n' + bounds):
        done = check(source, "--mapping", written(tmp_path / "m.toml", wrong))
        assert "error[MappingFileInvalid]" in done.err


def test_what_means_that_there_is_no_value_is_said_and_counts_as_missing(tmp_path: Path) -> None:
    frame = heart().astype(object)
    frame["sex"] = frame["sex"].map({1: "male", 0: "female"})
    frame.loc[:1, "sex"] = "unknown"
    frame.loc[:2, "chol"] = -9
    section = '[columns.sex]\nfrom = "sex"\nvalues = {{ male = 1, female = 0 }}\nmissing = {}\n'
    text = section.format('["unknown"]') + '[columns.chol]\nfrom = "chol"\nmissing = ["-9"]\n'
    numbers = mapped(frame, tmp_path, text)
    assert numbers["sex"].isna().tolist() == [True] * 2 + [False] * 58
    assert numbers["chol"].isna().tolist() == [True] * 3 + [False] * 57
    source = tmp_path / "t.csv"
    done = check(source, "--mapping", written(tmp_path / "m.toml", section.format('["male"]')))
    assert "error[MappingFileInvalid]" in done.err
    assert "is in values and in missing" in done.err


def test_a_unit_of_each_row(tmp_path: Path) -> None:
    frame = heart().astype(object)
    frame["unit"] = "mg/dL"
    frame.loc[:29, "chol"] = frame.loc[:29, "chol"].astype(float) / 38.665
    frame.loc[:29, "unit"] = "mmol/L"
    section = '[columns.chol]\nfrom = "chol"\nunit_from = "unit"\n'
    numbers = mapped(frame, tmp_path, section + 'molar_mass = "386.65 g/mol"\n')
    assert numbers["chol"].tolist() == pytest.approx(heart()["chol"].tolist())
    frame.loc[:4, "unit"] = None
    frame.loc[5:9, "unit"] = SECRET
    source = tmp_path / "t.csv"
    frame.to_csv(source, index=False)
    done = check(source, "--mapping", written(tmp_path / "m.toml", section))
    assert done.code == 1
    said = [line for line in done.out.splitlines() if line.startswith("problem: chol")]
    assert len(said) == 3
    assert {
        "have a value and no unit", "have a unit that is not known",
        "have a unit that does not convert to mg/dl",
    } == {line.split("rows ")[1].split(";")[0] for line in said}  # fmt: skip
    assert SECRET not in done.out + done.err


@pytest.mark.parametrize(
    ("unit", "to", "factor"),
    [("mmol/L", "mg/dl", 38.665), ("g/L", "mg/dl", 100), ("mg/dL", "mg/dl", 1),
     ("mm[Hg]", "mmHg", 1), ("kPa", "mmHg", 7.50062), ("/min", "beats/min", 1),
     ("{beats}/min", "beats/min", 1), ("cm", "mm", 10), ("10*3/uL", "10*9/L", 1),
     ("a", "years", 1), ("mo", "years", 1 / 12), ("%", "1", 0.01), ("kg/m2", "kg/m²", 1)],
)  # fmt: skip
def test_units_as_ucum_and_as_people_write_them(unit: str, to: str, factor: float) -> None:
    found = conversion("x", unit, to, "386.65 g/mol")
    assert (found.factor, found.offset) == pytest.approx((factor, 0), rel=1e-5)


def test_offsets_and_quantities() -> None:
    found = conversion("x", "Cel", "[degF]")
    assert (found.factor, found.offset) == pytest.approx((1.8, 32))
    assert amount("x", "7 mmol/L", "umol/L") == pytest.approx(7000)
    assert amount("x", "7", "mmol/L") == 7


@pytest.mark.parametrize(
    ("unit", "to", "error", "said"),
    [("mmol/L", "mg/dl", UnitUnconvertible, "molar mass"), ("mm", "mmHg", UnitUnconvertible, "mm"),
     ("furlongs per moon", "mm", UnitUnknown, "UCUM"), ("", "mmHg", UnitUnconvertible, "unit"),
     ("__import__('os')", "mm", UnitUnknown, "known"), ("[IU]/L", "U/L", UnitUnknown, "UCUM")],
)  # fmt: skip
def test_a_unit_is_never_taken_for_another(
    unit: str, to: str, error: type[AgentError], said: str
) -> None:
    with pytest.raises(error) as refusal:
        conversion("chol", unit, to)
    assert said in refusal.value.what + refusal.value.resolve
    assert refusal.value.what.startswith("chol: ")


def test_codes_that_are_not_listed_are_refused_and_not_shown(tmp_path: Path) -> None:
    frame = heart().astype(object)
    frame["sex"] = ["male", "female", SECRET] * 20
    source = tmp_path / "t.csv"
    frame.to_csv(source, index=False)
    section = '[columns.sex]\nfrom = "sex"\nvalues = { male = 1, female = 0 }\n'
    done = check(source, "--mapping", written(tmp_path / "m.toml", section))
    assert "problem: sex: at least 20 rows hold a code that values does not list" in done.out
    assert SECRET not in done.out + done.err


def test_a_name_that_is_not_mapped_is_shown_how_to_map(tmp_path: Path) -> None:
    source = tmp_path / "t.csv"
    heart().rename(columns={"chol": "cholesterol"}).to_csv(source, index=False)
    found = report(source)
    assert codes(found) == ["DataInvalid"]
    assert '[columns.chol] from = "ITS NAME"' in found["problems"][0]["resolve"]
    assert found["dropped"] == ["cholesterol"]


@pytest.mark.parametrize("rule", ["first", "last", "mean"])
def test_several_rows_of_a_patient_need_a_rule(tmp_path: Path, rule: str) -> None:
    frame = heart(40)
    later = frame.head(20).assign(chol=lambda x: x["chol"] + 10)
    both = pd.concat([frame, later]).assign(mrn=[*range(40), *range(20)])
    source = tmp_path / "t.csv"
    both.to_csv(source, index=False)
    found = report(source)
    assert codes(found) == ["PatientRepeated"]
    assert found["patients"] == "40 to 60 % have several rows"
    text = f'patient = "mrn"\nrows = "{rule}"\n'
    found = report(source, "--mapping", written(tmp_path / "m.toml", text))
    assert found["usable"]
    assert found["rows"] == "20 to 49"
    numbers = mapped_rows(both, text, tmp_path)
    plus = {"first": 0, "last": 10, "mean": 5}[rule]
    assert sorted(numbers["chol"]) == sorted([*(frame["chol"][:20] + plus), *frame["chol"][20:]])


def mapped_rows(frame: pd.DataFrame, text: str, tmp_path: Path) -> pd.DataFrame:
    from hospital_agent.table import reduced

    task = tasks.get(TASK)
    mapping = read_mapping(written(tmp_path / "m.toml", text), task)
    assert mapping.rows is not None
    rows = list(Reading(task, FrameSource(frame), mapping).chunks())
    return reduced(rows, mapping.rows, task)[0]


@pytest.mark.parametrize("rule", ["", 'rows = "mean"\n'])
def test_rows_that_name_no_patient_are_never_taken_for_one(tmp_path: Path, rule: str) -> None:
    names = [*range(36), None, None, None, None]
    source = tmp_path / "t.csv"
    heart(40).assign(mrn=pd.array(names, dtype="Int64")).to_csv(source, index=False)
    text = written(tmp_path / "m.toml", f'patient = "mrn"\n{rule}')
    assert "PatientUnnamed" in codes(report(source, "--mapping", text))


def test_a_mean_hides_no_number_out_of_bounds(tmp_path: Path) -> None:
    both = pd.concat([heart(20), heart(20).assign(chol=0)]).assign(mrn=[*range(20)] * 2)
    both.to_csv(tmp_path / "t.csv", index=False)
    text = written(tmp_path / "m.toml", 'patient = "mrn"\nrows = "mean"\n')
    (problem,) = report(tmp_path / "t.csv", "--mapping", text)["problems"]
    assert problem["what"] == "chol: at least 20 rows lie outside what is possible"


def test_the_mean_of_ages_is_in_whole_years(tmp_path: Path) -> None:
    both = pd.concat([heart(20), heart(20).assign(age=heart(20)["age"] + 1)])
    ages = mapped_rows(
        both.assign(mrn=[*range(20)] * 2), 'patient = "mrn"\nrows = "mean"\n', tmp_path
    )
    assert ages["age"].tolist() == heart(20)["age"].tolist()


def test_outcomes_have_no_mean(tmp_path: Path) -> None:
    both = pd.concat([heart(20), heart(20).assign(disease=1)]).assign(mrn=[*range(20)] * 2)
    source = tmp_path / "t.csv"
    both.to_csv(source, index=False)
    text = written(tmp_path / "m.toml", 'patient = "mrn"\nrows = "mean"\n')
    found = report(source, "--mapping", text)
    said = {problem["code"]: problem["what"] for problem in found["problems"]}
    assert "no mean" in said["PatientRepeated"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[columns.chol", "TOML"),
        ('[columns.cholesterol]\nfrom = "x"\n', "no such column"),
        ('[columns.chol]\nform = "x"\n', "columns.chol.form"),
        ("[columns.chol]\nunit = 'mg/dl'\n", "where it comes from"),
        ('[columns.chol]\nfrom = "x"\nmeasurement = [1]\ntake = "first"\n', "says it twice"),
        ("[columns.chol]\nmeasurement = [1]\n", "which of a patient's values"),
        ("[columns.disease]\ncondition = [1]\n", "is there, or is not"),
        ('[columns.age]\nperson = "age"\n', "on a day"),
        ('[columns.sex]\nfrom = "sex"\nunit = "1"\nvalues = { a = 1 }\n', "no unit"),
        ('[columns.sex]\nfrom = "sex"\nvalues = { NA = 0, M = 1 }\n', "no value"),
        ('rows = "newest"\n', "rows"),
        ('[source]\ndelimiter = ";;"\n', "source.delimiter"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_by_its_field(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(MappingFileInvalid) as refusal:
        read_mapping(written(tmp_path / "m.toml", text), tasks.get(TASK))
    assert said in refusal.value.what


def test_a_mapping_that_does_not_fit_its_source(tmp_path: Path) -> None:
    source = tmp_path / "t.csv"
    heart().to_csv(source, index=False)
    command = ("hospital-agent", "data", "check", "--source", source, "--task", TASK, "--mapping")
    for text in (
        'patient = "nobody"\n', 'rows = "first"\n', '[source]\nencoding = "klingon"\n',
        '[columns.chol]\nfrom = "chol"\nunit_from = "nothing"\n',
    ):  # fmt: skip
        refused("MappingFileInvalid", *command, written(tmp_path / "m.toml", text))
    refused("MappingFileInvalid", *command, tmp_path / "nowhere.toml")
    assert Mapping() == read_mapping(None, tasks.get(TASK))


def test_the_mappings_of_the_documentation(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    blocks = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 4
    for text in blocks:
        read_mapping(written(tmp_path / "m.toml", text), tasks.get(TASK))
    names = {"age": "alter", "sex": "geschlecht", "chol": "cholesterin", "fbs": "glukose"}
    theirs = heart().rename(columns=names).assign(fallnr=range(60))
    theirs["cholesterin"] /= 38.665
    theirs["geschlecht"] = theirs["geschlecht"].map({1: "m", 0: "w"})
    theirs["glukose"] = theirs["glukose"].map({1: 7.1, 0: 5.0})
    theirs.to_csv(tmp_path / "t.csv", index=False, sep=";", decimal=",", encoding="cp1252")
    found = report(tmp_path / "t.csv", "--mapping", written(tmp_path / "m.toml", blocks[0]))
    assert (found["usable"], found["dropped"]) == (True, ["fallnr"])


def test_repeats_are_exact_and_then_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    hashes = rng.integers(0, 2**63, 40_000, dtype=np.uint64)
    rows = np.concatenate([hashes, hashes[:10_000]])

    def counted() -> Repeats:
        found = Repeats()
        for start in range(0, len(rows), 7_000):
            found.take(rows[start : start + 7_000])
        return found

    assert (counted().share, counted().repeated) == (0.2, 0.25)
    monkeypatch.setattr(repeats, "LIMIT", 2_000)
    sampled = counted()
    assert sampled.share == pytest.approx(0.2, abs=0.04)
    assert sampled.repeated == pytest.approx(0.25, abs=0.05)
    assert len(sampled._known) <= 2_000
    assert (Repeats().share, Repeats().repeated) == (0.0, 0.0)
