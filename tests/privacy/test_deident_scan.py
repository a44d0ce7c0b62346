"""The residual scan finds identifiers of each kind, leaves measurements alone, shows no value."""

from dataclasses import asdict

import pandas as pd
import pytest

from privacy.deidentification import identifiers as of
from privacy.deidentification.identifiers import Finding, refuse, scan, shown
from privacy.deidentification.safe_harbor import ITEMS, checklist
from privacy.errors import ResidualIdentifier

PLANTED = {
    of.NAME: [
        "John Smith", "SMITH, John A.", "Doe^Jane", "Dr. Wyrzykowski", "Wyrzykowski, Zbigniew",
        "Zbigniew Wyrzykowski", "maria", "Szabó", "José García", "Mrs Okonkwo", "O'Brien, Sinéad",
        "seen by kovacs", "Nagy István", "anna-maria huber",
    ],
    of.PLACE: ["12 Main Street", "4711 North Elm Ave", "Bahnhofstrasse 12", "P.O. Box 1234"],
    of.ZIP: ["94110-1234", "CA 94110", "SW1A 1AA", "zip 03601"],
    of.DATE: [
        "2021-03-04", "03/04/2021", "4.3.21", "4 March 2021", "Mar 4, 2021", "20210304",
        "2021-03", "March 2021", "2021-03-04T10:22:01Z", "19510704", "12. Mai 1949",
    ],
    of.AGE: ["93 years", "91yo", "093Y", "101 years old"],
    of.PHONE: [
        "(415) 555-2671", "415-555-2671", "+41 44 268 12 34", "+36 1 234 5678", "555-1234",
        "tel 0442681234", "fax: 415 555 2671", "4155552671",
    ],
    of.EMAIL: ["j.doe@example.org", "mail j_doe+x@clinic.co.uk now"],
    of.SSN: ["123-45-6789", "ssn 123456789", "756.1234.5678.97"],
    of.RECORD: [
        "MRN0012345", "MRN: 4711", "patient no. 44182", "acct 99812", "H-0012345", "8812345",
        "policy 55-1234", "licence D1234567", "12-3456-78", "123456789012",
    ],
    of.VEHICLE: ["1HGCM82633A004352", "plate ZH 123456"],
    of.DEVICE: ["serial no. A-2231", "(01)00643169007222", "pacemaker 7731", "00:1a:2b:3c:4d:5e"],
    of.URL: ["https://example.org/p/1", "www.clinic.example", "portal.clinic.org"],
    of.IP: ["192.168.10.44", "2001:db8::8a2e:370:7334"],
    of.CODE: [
        "123e4567-e89b-12d3-a456-426614174000", "9f86d081884c7d659a2feaa0c55ad015",
        "1.2.840.113619.2.55.3",
    ],
    of.TEXT: ["pt says he feels better today", "lives alone since the husband died in spring"],
}  # fmt: skip

HARMLESS = [
    "1", "0", "63", "145", "233.5", "-1.2", "1e-3", "120/80", "1.5-2.0", "yes", "no", "male",
    "female", "M", "F", "unknown", "positive", "Typical Angina", "Atypical Angina", "non-anginal",
    "asymptomatic", "Chest Pain", "left", "Left Ventricular Hypertrophy", "normal",
    "ST-T abnormality", "I10", "E11.9", "C50.9", "LP1234-5", "2345-7", "mmol/L", "mg/dL", "< 5",
    "2021", "90", "999999", "0.0000001", "A+", "NYHA II", "grade 2", "T2N0M0", "none", "never",
    "Former Smoker", "Class III", "NaN", "12.5 %",
]  # fmt: skip


def test_every_planted_identifier_is_found_and_its_kind_named() -> None:
    every = [(kind, text) for kind, texts in PLANTED.items() for text in texts]
    assert len(every) >= 70
    frame = pd.DataFrame(
        [[text for _, text in every]], columns=[f"v{i}" for i in range(len(every))]
    )
    found = {(finding.column, finding.kind) for finding in scan([frame.astype(object)])}
    missed = [(kind, text) for i, (kind, text) in enumerate(every) if (f"v{i}", kind) not in found]
    assert missed == []


def test_measurements_codes_and_clinical_words_are_left_alone() -> None:
    frame = pd.DataFrame([HARMLESS], columns=[f"v{i}" for i in range(len(HARMLESS))], dtype=object)
    assert [(f.kind, HARMLESS[int(f.column[1:])]) for f in scan([frame])] == []


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("patient_name", of.NAME), ("LastName", of.NAME), ("date_of_birth", of.DATE), ("DOB",
        of.DATE),
        ("zip", of.ZIP), ("PLZ", of.ZIP), ("phoneNumber", of.PHONE), ("mrn", of.RECORD),
        ("person_id", of.RECORD), ("home-address", of.PLACE), ("notes", of.TEXT), ("ssn", of.SSN),
        ("age", None), ("sex", None), ("chol", None), ("mean_concave_points", None), ("cp", None),
        ("restecg", None), ("worst_fractal_dimension", None), ("hospitalised", None), ("fbs", None),
        ("PatientAge", None), ("patient_sex", None), ("white_blood_cell", None),
        ("patient", of.RECORD), ("relative_risk", None), ("city", of.PLACE),
        ("patientPhone", of.PHONE),
    ],
)  # fmt: skip
def test_what_a_columns_name_announces(column: str, kind: str | None) -> None:
    assert of.of_name(column) == kind
    found = scan([pd.DataFrame({column: ["47", "51", None]}, dtype=object)])
    assert [finding.kind for finding in found] == ([kind] if kind else [])


def test_ages_over_89_are_found_where_the_column_holds_ages() -> None:
    frame = pd.DataFrame({"age": ["91", "104", "90", "63"], "thalach": ["91", "104", "90", "63"]})
    assert scan([frame.astype(object)]) == (Finding(of.AGE, "age", "fewer than 5"),)


def test_counts_add_up_over_chunks_and_leave_in_bands() -> None:
    chunk = pd.DataFrame({"a": ["j@example.org"] * 12 + [None], "b": ["1"] * 13}, dtype=object)
    assert scan([chunk, chunk]) == (Finding(of.EMAIL, "a", "at least 20"),)


def test_numbers_are_scanned_like_texts() -> None:
    frame = pd.DataFrame({"a": [19510704, 5], "b": [4155552671.0, 1.5], "c": [1234567, 7654321]})
    assert [(f.column, f.kind) for f in scan([frame])] == [
        ("a", of.DATE), ("b", of.PHONE), ("c", of.RECORD),
    ]  # fmt: skip


def test_a_header_that_is_data_is_not_shown() -> None:
    plain = ["age", "patient_name", "Resting Blood Pressure", "Serum Cholesterol", "mean_radius"]
    assert shown(plain) == plain
    data = ["John Smith", "19510704", "415-555-2671", "", "Zbigniew Wyrzykowski-Okonkwo"]
    assert shown(data) == [f"column {place}" for place in range(1, 6)]


def test_the_scan_fails_closed_and_names_places_only() -> None:
    frame = pd.DataFrame(
        {"chol": ["MRN0012345", "233"], "seen": ["2021-03-04", None]}, dtype=object
    )
    findings = scan([frame])
    refuse(findings, ["age"])
    with pytest.raises(ResidualIdentifier) as error:
        refuse(findings, ["age", "chol"])
    said = error.value.what + error.value.resolve
    assert "chol: record, account or licence number (fewer than 5 rows)" in said
    assert "0012345" not in said + str([asdict(finding) for finding in findings])
    assert "seen" not in said


def test_safe_harbor_reports_each_of_the_18() -> None:
    frame = pd.DataFrame(
        {"age": ["95"], "chol": ["MRN0012345"], "name": ["x"], "visit": ["2021-03-04"],
         "n": ["tel 0442681234"]},
        dtype=object,
    )  # fmt: skip
    items = {
        item.letter: item
        for item in checklist(scan([frame]), ["age", "chol"], ["name", "visit", "n"], ["age"])
    }
    assert list(items) == [letter for letter, _, _ in ITEMS] == list("ABCDEFGHIJKLMNOPQR")
    states = {letter: item.state for letter, item in items.items()}
    assert states["A"] == "dropped"
    assert (states["C"], states["D"], states["E"]) == ("generalised", "dropped", "dropped")
    assert {states[letter] for letter in "HIJK"} == {"found"}
    assert {states[letter] for letter in "BFGLMNOPQ"} == {"absent"}
    assert states["R"] == "not decided here"
    assert "visit (fewer than 5 rows)" in items["C"].looked_at
    assert checklist((), [], [], images=True)[16].state == "not decided here"
