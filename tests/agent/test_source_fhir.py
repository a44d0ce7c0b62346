"""FHIR R4 as a source: one row a Patient; other versions and broken exports are refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from fhir_examples import (
    LOINC,
    MAPPING,
    SECRET,
    Resource,
    bundle,
    concept,
    condition,
    ndjson,
    observation,
    of_one,
    quantity,
)
from heart_table import check, codes, heart, report, written

from consortium import tasks
from hospital_agent.errors import (
    AgentError,
    FhirInvalid,
    FhirVersionUnsupported,
    MappingFileInvalid,
    SourceEmpty,
    SourceTooLarge,
    TableUnreadable,
)
from hospital_agent.mapping import read_mapping
from hospital_agent.sources import fhir
from hospital_agent.sources.fhir import FhirExport
from hospital_agent.table import Reading

TASK = tasks.get("heart-disease")


@pytest.fixture(scope="module")
def resources() -> list[Resource]:
    rows = enumerate(heart(30).itertuples(), start=1)
    return [resource for number, row in rows for resource in of_one(number, row)]


def numbers(path: Path, tmp_path: Path, text: str = MAPPING) -> pd.DataFrame:
    mapping = read_mapping(written(tmp_path / "m.toml", text), TASK)
    reading = Reading(TASK, FhirExport(path, mapping), mapping)
    return pd.concat([rows.numbers for rows in reading.chunks()], ignore_index=True)


def folder(path: Path, resources: list[Resource]) -> Path:
    """A bulk export: one file for each kind, patients not first."""
    path.mkdir()
    for kind in ("Condition", "Observation", "Patient"):
        ndjson(path / f"{kind}.ndjson", [r for r in resources if r["resourceType"] == kind])
    return path


@pytest.mark.parametrize(
    ("form", "name"), [(ndjson, "e.ndjson"), (bundle, "e.json"), (folder, "export")]
)
def test_each_form_of_an_export_gives_the_same_rows(
    tmp_path: Path, resources: list[Resource], form: Callable[..., Path], name: str
) -> None:
    path = form(tmp_path / name, resources)
    found = numbers(path, tmp_path)[list(heart(30))]
    pd.testing.assert_frame_equal(found, heart(30).astype(float), rtol=1e-9)
    said = report(path, "--mapping", tmp_path / "m.toml")
    assert (said["usable"], said["kind"], said["patients"]) == (True, "fhir", "one row each")
    assert {"Patient.name", "Patient.birthDate", "Observation.note"} <= {*said["dropped"]}
    places = {(finding["column"], finding["kind"]) for finding in said["identifiers"]}
    assert ("Patient.name", "name") in places
    assert ("Patient.birthDate", "date") in places
    assert SECRET not in json.dumps(said)


def test_references_by_full_url(tmp_path: Path, resources: list[Resource]) -> None:
    entries = []
    for resource in json.loads(json.dumps(resources)):
        number = resource.get("id") or resource["subject"]["reference"].split("/")[1]
        url = f"urn:uuid:00000000-0000-0000-0000-{int(number):012d}"
        if resource["resourceType"] != "Patient":
            resource["subject"]["reference"] = url
        entries.append({"resource": resource, "fullUrl": url})
    path = written(
        tmp_path / "e.json", json.dumps({"resourceType": "Bundle", "entry": entries[::-1]})
    )
    assert numbers(path, tmp_path)["chol"].notna().all()


def test_a_value_without_unit_or_with_a_comparator_is_no_number(
    tmp_path: Path, resources: list[Resource]
) -> None:
    changed = json.loads(json.dumps(resources))
    for resource in changed:
        value = resource.get("valueQuantity", {})
        if value.get("code") == "/min":
            del value["code"]
        if value.get("code") == "mm":
            value["comparator"] = "<"
    said = report(ndjson(tmp_path / "e.ndjson", changed), "--mapping",
                  written(tmp_path / "m.toml", MAPPING))  # fmt: skip
    what = sorted(problem["what"] for problem in said["problems"])
    assert [text.split(":")[0] for text in what] == ["oldpeak", "thalach"]
    assert "not numbers" in what[0]
    assert "no unit" in what[1]


def test_a_unit_of_the_mapping_is_for_values_that_do_not_say_their_own(tmp_path: Path) -> None:
    patients = [{"resourceType": "Patient", "id": str(n)} for n in range(3)]
    values = [quantity(8, "mmol/L"), quantity(144, "mg/dL"), {"value": 90}]
    facts = [
        observation(f"Patient/{n}", concept(LOINC, "1558-6"), "2020", valueQuantity=value)
        for n, value in enumerate(values)
    ]
    text = (
        f'[columns.fbs]\nobservation = ["{LOINC}|1558-6"]\ntake = "newest"\nunit = "mg/dL"\n'
        'molar_mass = "180.16 g/mol"\nabove = "120 mg/dL"\nlow = "20 mg/dL"\nhigh = "1500 mg/dL"\n'
    )
    found = numbers(ndjson(tmp_path / "e.ndjson", [*patients, *facts]), tmp_path, text)
    assert found["fbs"].tolist() == [1, 1, 0]


def test_a_condition_that_nobody_confirmed_means_what_the_mapping_says(tmp_path: Path) -> None:
    patients = [{"resourceType": "Patient", "id": str(n)} for n in range(4)]
    stages = [["provisional"], ["confirmed"], ["differential", "confirmed"]]
    facts = [
        condition(
            f"Patient/{n}", "53741008",
            verificationStatus=concept("http://terminology.hl7.org", verified),
        )
        for n, several in enumerate(stages)
        for verified in several
    ]  # fmt: skip
    source = ndjson(tmp_path / "e.ndjson", [*patients, *facts])
    text = '[columns.disease]\ncondition = ["http://snomed.info/sct|53741008"]\nvalues = '
    found = numbers(source, tmp_path, text + "{ present = 1, absent = 0, unconfirmed = 0 }\n")
    assert found["disease"].tolist() == [0, 1, 1, 0]
    known = text + "{ present = 1, absent = 0 }\n"
    said = report(source, "--mapping", written(tmp_path / "m.toml", known))
    assert any(
        "a code that values does not list" in problem["what"] for problem in said["problems"]
    )


def test_what_is_said_of_another_than_the_patient_does_not_count(tmp_path: Path) -> None:
    patients = [{"resourceType": "Patient", "id": str(n)} for n in range(2)]
    facts = [
        observation("Patient/0", concept(LOINC, "2093-3"), "2020",
                    valueQuantity=quantity(200, "mg/dL")),
        observation("Patient/0", concept(LOINC, "2093-3"), "2021",
                    valueQuantity=quantity(300, "mg/dL"), focus=[{"reference": "Patient/1"}]),
    ]  # fmt: skip
    text = f'[columns.chol]\nobservation = ["{LOINC}|2093-3"]\ntake = "newest"\n'
    found = numbers(ndjson(tmp_path / "e.ndjson", [*patients, *facts]), tmp_path, text)
    assert found["chol"].tolist()[0] == 200


OTHERS = {
    "R5 Observation": {"resourceType": "Observation", "triggeredBy": []},
    "R5 Condition": {"resourceType": "Condition", "participant": []},
    "R5 profile": {
        "resourceType": "Patient",
        "meta": {"profile": ["http://hl7.org/fhir/5.0/StructureDefinition/Patient"]},
    },
    "R5 version of a profile": {
        "resourceType": "Patient",
        "meta": {"profile": ["http://hl7.org/fhir/StructureDefinition/Patient|5.0.0"]},
    },
    "stated": {"resourceType": "CapabilityStatement", "fhirVersion": "3.0.2"},
    "STU3 Patient": {"resourceType": "Patient", "animal": {}},
    "DSTU2 Condition": {"resourceType": "Condition", "patient": {"reference": "Patient/1"}},
    "STU3 Condition": {"resourceType": "Condition", "clinicalStatus": "active"},
    "DSTU2 Observation": {"resourceType": "Observation", "category": {"coding": []}},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_versions_are_refused_by_what_shows_them(tmp_path: Path, name: str) -> None:
    for path in (
        ndjson(tmp_path / "e.ndjson", [OTHERS[name]]), bundle(tmp_path / "e.json", [OTHERS[name]])
    ):  # fmt: skip
        done = check(path)
        assert "error[FhirVersionUnsupported]" in done.err
        assert "R4" in done.err


def test_r4_says_so_too(tmp_path: Path) -> None:
    profile = "http://hl7.org/fhir/StructureDefinition/Patient|4.0.1"
    patient = {"resourceType": "Patient", "id": "1", "meta": {"profile": [profile]}}
    stated = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"}
    path = ndjson(tmp_path / "e.ndjson", [patient, stated])
    assert len(list(FhirExport(path, read_mapping(None, TASK)).chunks())) == 1


BROKEN: dict[str, tuple[str, str, type[AgentError]]] = {
    "XML": ("e.json", "<Bundle xmlns='http://hl7.org/fhir'/>", FhirInvalid),
    "a torn line": ("e.ndjson", '{"resourceType": "Patient", "id"', FhirInvalid),
    "no resource": ("e.ndjson", '{"id": 1}', FhirInvalid),
    "a list": ("e.json", "[]", FhirInvalid),
    "no Bundle": ("e.json", '{"resourceType": "Patient"}', FhirInvalid),
    "an entry without a resource": (
        "e.json", '{"resourceType": "Bundle", "entry": [{}]}', FhirInvalid,
    ),
    "deeper than anything": ("e.json", "[" * 200_000, FhirInvalid),
    "empty": ("e.ndjson", "", SourceEmpty),
    "an empty Bundle": ("e.json", '{"resourceType": "Bundle"}', SourceEmpty),
    "a patient twice": (
        "e.ndjson", '{"resourceType": "Patient", "id": "1"}\n' * 2, FhirInvalid,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_export_is_refused(tmp_path: Path, name: str) -> None:
    file, text, error = BROKEN[name]
    with pytest.raises(error):
        FhirExport(written(tmp_path / file, text), read_mapping(None, TASK)).columns()


SOMEBODY = {"resourceType": "Patient", "id": "1"}
BEATS = {"subject": {"reference": "Patient/1"}, "code": concept(LOINC, "8873-2"),
         "valueQuantity": quantity(60, "/min"), "resourceType": "Observation"}  # fmt: skip
CHEST = BEATS | {"code": concept("http://example.org", "chest-pain")}
del CHEST["valueQuantity"]


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ([SOMEBODY, BEATS | {"modifierExtension": [{"url": "x"}]}], "modifierExtension"),
        ([SOMEBODY | {"link": [{"type": "replaced-by"}]}], "two rows"),
        ([SOMEBODY, {"resourceType": "Bundle"}], "line 2 is a Bundle"),
        ([SOMEBODY | {"name": "\ud800"}], "line 1 is not JSON"),
    ],
)
def test_what_would_be_misread_is_refused(
    tmp_path: Path, resources: list[Resource], said: str
) -> None:
    with pytest.raises(FhirInvalid, match=said):
        numbers(ndjson(tmp_path / "e.ndjson", resources), tmp_path)


def test_one_page_of_several_is_refused(tmp_path: Path) -> None:
    page = {"resourceType": "Bundle", "link": [{"relation": "next"}], "entry": []}
    path = written(tmp_path / "e.json", json.dumps(page))
    assert "one page of several" in check(path).err


@pytest.mark.parametrize(
    "odd", [{"component": ["x", None]}, {"component": {}}, {"status": ["final"]}, {"code": "x"}]
)
def test_elements_of_another_form_are_no_crash(tmp_path: Path, odd: Resource) -> None:
    path = ndjson(tmp_path / "e.ndjson", [SOMEBODY, BEATS, BEATS | odd])
    assert numbers(path, tmp_path)["thalach"].tolist() == [60]


def test_a_patient_by_several_references_has_one_newest_value(tmp_path: Path) -> None:
    code = concept(LOINC, "8873-2")
    facts = [
        observation(reference, code, day, valueQuantity=quantity(beats, "/min"))
        for reference, day, beats in (
            ("Patient/1", "2020", 60), ("http://clinic.example/fhir/Patient/1", "1990", 99),
            ("Patient/1/_history/2", "2021", 70), ("Patient/1/_history/1", "1980", 98),
        )
    ]  # fmt: skip
    found = numbers(ndjson(tmp_path / "e.ndjson", [SOMEBODY, *facts]), tmp_path)
    assert found["thalach"].tolist() == [70]


def test_a_value_in_words_is_a_code_that_is_not_listed(tmp_path: Path) -> None:
    path = ndjson(
        tmp_path / "e.ndjson", [SOMEBODY, CHEST | {"valueCodeableConcept": {"text": SECRET}}]
    )
    found = report(path, "--mapping", written(tmp_path / "m.toml", MAPPING))
    assert [p["what"][:3] for p in found["problems"] if p["code"] == "ValueUnmapped"] == ["cp:"]


def test_an_observation_of_nobody_is_refused(tmp_path: Path) -> None:
    mapping = read_mapping(written(tmp_path / "m.toml", MAPPING), TASK)
    somebody = {"resourceType": "Patient", "id": "1"}
    value = {"valueQuantity": quantity(60, "/min")}
    for patient, said in (("Patient/2", "not in the export"), (None, "which patient")):
        other = observation(str(patient), concept(LOINC, "8873-2"), "2020", **value)
        if patient is None:
            del other["subject"]
        path = ndjson(tmp_path / "e.ndjson", [somebody, other])
        with pytest.raises(FhirInvalid, match=said):
            list(FhirExport(path, mapping).chunks())
    with pytest.raises(TableUnreadable):
        FhirExport(tmp_path / "nowhere.ndjson", mapping).columns()


def test_what_is_not_mapped_is_shown_how_to(
    tmp_path: Path, resources: list[Resource], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ndjson(tmp_path / "e.ndjson", resources)
    found = report(path)
    assert codes(found) == ["DataInvalid"] * 10 + ["LabelsMissing"]
    assert "observation = [" in found["problems"][0]["resolve"]
    without = '[columns.chol]\nobservation = ["2093-3"]\ntake = "first"\n'
    with pytest.raises(MappingFileInvalid, match="system"):
        FhirExport(path, read_mapping(written(tmp_path / "m.toml", without), TASK))
    monkeypatch.setattr(fhir, "MOST_OF_A_BUNDLE", 10)
    with pytest.raises(SourceTooLarge, match="Bundle"):
        FhirExport(bundle(tmp_path / "e.json", resources), read_mapping(None, TASK)).columns()


def test_days_are_kept_to(tmp_path: Path) -> None:
    patient = {"resourceType": "Patient", "id": "1"}
    days = ["2018-12-31", "2019-06-01", "2020-06-01T00:00:00Z", "2021-01-01", ""]
    facts = [
        observation("Patient/1", concept(LOINC, "8873-2"), day,
                    valueQuantity=quantity(100 + place, "/min"))
        for place, day in enumerate(days)
    ]  # fmt: skip
    path = ndjson(tmp_path / "e.ndjson", [patient, *facts])
    for take, expected in (("first", "101"), ("newest", "102")):
        text = (
            f'[columns.thalach]\nobservation = ["{LOINC}|8873-2"]\ntake = "{take}"\n'
            "since = 2019-01-01\nuntil = 2020-12-31\n"
        )
        mapping = read_mapping(written(tmp_path / "m.toml", text), TASK)
        (chunk,) = FhirExport(path, mapping).chunks(["thalach"])
        assert chunk["thalach"].tolist() == [expected]


def test_the_errors_are_typed() -> None:
    assert issubclass(FhirInvalid, TableUnreadable)
    assert FhirVersionUnsupported("", "").code == "FhirVersionUnsupported"
