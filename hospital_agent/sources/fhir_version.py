"""Which version of FHIR a resource is of: R4 (4.0, 4.3) is read, others are refused.

A resource rarely says its version. It shows it in its elements: those below were renamed, added or
taken away between versions, for the three kinds of resources that are read
(https://hl7.org/fhir/R4/diff.html, https://hl7.org/fhir/R5/diff.html and the pages of each).
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from hospital_agent.errors import FhirVersionUnsupported

_LATER: Final = {
    "Observation": {"triggeredBy", "instantiatesCanonical", "instantiatesReference",
                    "bodyStructure", "valueAttachment", "valueReference"},
    "Condition": {"participant"},
    "Bundle": {"issues"},
}  # fmt: skip
_EARLIER: Final = {
    "Patient": {"animal"},
    "Observation": {"comment", "comments", "related", "context"},
    "Condition": {"patient", "dateRecorded", "assertedDate", "context", "encounterDiagnosis"},
}
_STATED: Final = re.compile(r"\|(\d+)\.(\d+)|/fhir/(DSTU2|STU3|R4B?|R5|R6|\d\.\d)/", re.IGNORECASE)


def check(resource: Mapping[str, Any]) -> None:
    """Checks that a resource is R4.

    Raises:
        FhirVersionUnsupported: if it says, or its elements show, another version.
    """
    if said := _said(resource):
        raise _refused(f"it says so ({said})")
    kind = str(resource.get("resourceType"))
    elements = {name.lstrip("_") for name in resource}
    if later := sorted(elements & _LATER.get(kind, set())):
        raise _refused(f"{kind}.{later[0]} came after it")
    if earlier := sorted(elements & _EARLIER.get(kind, set())):
        raise _refused(f"{kind}.{earlier[0]} went before it")
    if kind == "Condition" and isinstance(resource.get("clinicalStatus"), str):
        raise _refused("Condition.clinicalStatus was a plain code before it")
    if kind == "Observation" and isinstance(resource.get("category"), dict):
        raise _refused("Observation.category was no list before it")


def _said(resource: Mapping[str, Any]) -> str | None:
    version = resource.get("fhirVersion")
    if isinstance(version, str) and not version.startswith(("4.0", "4.3")):
        return "fhirVersion"
    meta = resource.get("meta")
    profiles = meta.get("profile", []) if isinstance(meta, Mapping) else []
    for profile in profiles if isinstance(profiles, list) else [profiles]:
        text = str(profile)
        stated = _STATED.search(text) if "hl7.org/fhir/" in text else None
        if stated is None:
            continue
        number, name = stated[1], stated[3]
        if (number and number != "4") or (name and not re.match(r"R4B?$|4\.[03]$", name, re.I)):
            return "meta.profile"
    return None


def _refused(why: str) -> FhirVersionUnsupported:
    return FhirVersionUnsupported(
        f"the data is not FHIR R4: {why}",
        "have the server export R4 (4.0.1), or convert it first",
    )
