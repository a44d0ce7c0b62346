"""Exports in FHIR R4 of made-up patients who fit the heart-disease task, and their mapping."""

import json
from pathlib import Path
from typing import Any

from heart_table import written

SECRET = "Wyrzykowski"
LOINC, SNOMED = "http://loinc.org", "http://snomed.info/sct"
MAPPING = """
[columns.age]
person = "age"
at = 2024-12-31
[columns.sex]
person = "gender"
values = { male = 1, female = 0 }
[columns.trestbps]
observation = ["http://loinc.org|8480-6"]
take = "newest"
[columns.chol]
observation = ["http://loinc.org|2093-3", "http://loinc.org|14647-2"]
take = "newest"
molar_mass = "386.65 g/mol"
[columns.fbs]
observation = ["http://loinc.org|1558-6"]
take = "first"
above = "120 mg/dL"
low = "20 mg/dL"
high = "1500 mg/dL"
[columns.thalach]
observation = ["http://loinc.org|8873-2"]
take = "newest"
[columns.exang]
condition = ["http://snomed.info/sct|300995000"]
values = { present = 1, absent = 0 }
[columns.oldpeak]
observation = ["http://example.org|st-depression"]
take = "newest"
[columns.cp]
observation = ["http://example.org|chest-pain"]
take = "newest"
values = { "http://example.org|1" = 1, "http://example.org|2" = 2, "http://example.org|3" = 3, "http://example.org|4" = 4 }
[columns.restecg]
observation = ["http://example.org|resting-ecg"]
take = "newest"
[columns.disease]
condition = ["http://snomed.info/sct|53741008"]
values = { present = 1, absent = 0 }
"""  # noqa: E501 (a table of TOML stands on one line)
Resource = dict[str, Any]


def concept(system: str, code: str) -> Resource:
    return {"coding": [{"system": system, "code": code}]}


def quantity(value: float, unit: str) -> Resource:
    return {"value": value, "system": "http://unitsofmeasure.org", "code": unit}


def observation(patient: str, code: Resource, when: str, **more: Any) -> Resource:
    return {
        "resourceType": "Observation", "status": "final", "code": code,
        "subject": {"reference": patient}, "effectiveDateTime": when, **more,
    }  # fmt: skip


def condition(patient: str, code: str, **more: Any) -> Resource:
    of = {"subject": {"reference": patient}, "code": concept(SNOMED, code)}
    return {"resourceType": "Condition", **of, **more}


def of_one(number: int, row: Any) -> list[Resource]:
    """What an export says of one patient, some of it old, refuted or of no use."""
    me = f"Patient/{number}"
    values = {
        ("http://loinc.org", "8873-2"): quantity(row.thalach, "/min"),
        ("http://example.org", "st-depression"): quantity(row.oldpeak, "mm"),
        ("http://loinc.org", "1558-6"): quantity(140 if row.fbs else 90, "mg/dL"),
    }
    systolic = {"code": concept(LOINC, "8480-6"), "valueQuantity": quantity(row.trestbps, "mm[Hg]")}
    found = [
        {
            "resourceType": "Patient", "id": str(number), "name": [{"family": SECRET}],
            "gender": "male" if row.sex else "female", "birthDate": f"{2024 - row.age}-06-30",
        },
        *(
            observation(me, concept(*code), "2020-05-01", valueQuantity=value)
            for code, value in values.items()
        ),
        observation(me, concept(LOINC, "1558-6"), "2021-05-01", valueQuantity=quantity(0, "mg/dL")),
        observation(me, concept(LOINC, "85354-9"), "2020-05-01", component=[systolic]),
        observation(me, concept(LOINC, "2093-3"), "2019-01-01", valueQuantity=quantity(1, "mg/dL")),
        observation(
            me, concept(LOINC, "14647-2"), "2020-01-01T10:00:00+02:00",
            valueQuantity=quantity(row.chol / 38.665, "mmol/L"), note=[{"text": SECRET}],
        ),
        observation(
            me, concept(LOINC, "2093-3"), "2022-01-01", status="entered-in-error",
            valueQuantity=quantity(2, "mg/dL"),
        ),
        observation(
            me, concept("http://example.org", "chest-pain"), "2020",
            valueCodeableConcept=concept("http://example.org", str(row.cp)),
        ),
        observation(
            me, concept("http://example.org", "resting-ecg"), "2020", valueInteger=int(row.restecg)
        ),
        observation(me, concept(LOINC, "8302-2"), "2020", valueString=f"as {SECRET} said"),
    ]  # fmt: skip
    refuted = {"verificationStatus": concept("http://terminology.hl7.org", "refuted")}
    for code, there in (("300995000", row.exang), ("53741008", row.disease)):
        found.append(condition(me, code, **({} if there else refuted)))
    return found


def ndjson(path: Path, resources: list[Resource]) -> Path:
    return written(path, "".join(json.dumps(resource) + "\n" for resource in resources))


def bundle(path: Path, resources: list[Resource]) -> Path:
    entries = [{"resource": resource} for resource in resources]
    return written(path, json.dumps({"resourceType": "Bundle", "entry": entries}))
