"""What leaves a hospital in a whole job, byte by byte: no patient's value, no exact n, no norm."""

import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from consortium_in_memory import TASK, Api, Consortium, copy_of, repeatable

from consortium import tasks
from consortium.phases import Phase
from hospital_agent.cohort import PARTS, Cohort
from hospital_agent.evaluation import Evaluations
from hospital_agent.folder import HospitalFolder
from ledger.content import model_hash
from privacy import closed_form

ONE = "hospital-1"
# Not in the middle of a hash or of Base64.
_NUMBER = re.compile(rb"(?<![\w+/=.-])-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w+/=.])")
# Integers in a hospital's records that everybody knows already.
_PUBLIC = {"v", "round", "attempt", "height", "steps", "rounds", "normaliser", "size"}


@dataclass
class Left:
    """All that one hospital has sent."""

    blobs: list[bytes] = field(default_factory=list)

    def records(self) -> Iterator[dict[str, Any]]:
        for blob in self.blobs:
            if blob.startswith(b'{"body":'):
                yield json.loads(blob)["body"]

    def texts(self) -> set[bytes]:
        """Each number that is written out."""
        return {number for blob in self.blobs for number in _NUMBER.findall(blob)}

    def binary(self, numbers: set[float]) -> set[float]:
        """Which of these are there as eight bytes, at any place, or as four beside another one.

        A single one in four is not looked for: in this many bytes some are there by chance.
        """
        wanted = np.array(sorted(numbers))
        narrow = wanted.astype(np.float32).astype(np.float64)
        found: set[float] = set()
        for blob, form in product(self.blobs, ("<f8", ">f8", "<f4", ">f4")):
            width = np.dtype(form).itemsize
            for at in range(min(width, len(blob))):
                whole = (len(blob) - at) // width * width
                with np.errstate(invalid="ignore"):
                    read = np.frombuffer(blob[at : at + whole], form).astype(np.float64)
                there = np.isin(read, wanted if width == 8 else narrow)
                if width == 4:
                    there[:-1] &= there[1:]
                    there[-1:] = False
                found.update(read[there].tolist())
        return found


@dataclass
class Private:
    """What may not leave: patients' values, how many they are, how long their gradients are."""

    values: set[float]
    counts: set[int]
    norms: list[float] = field(default_factory=list)

    @staticmethod
    def of(cohort: Cohort) -> "Private":
        frames = [cohort.frame(part) for part in PARTS]
        values = {float(v) for frame in frames for v in frame.to_numpy().flatten()}
        values |= {v for part in PARTS for v in cohort.tensors(part)[0].flatten().tolist()}
        sizes = [(len(f), int(f[tasks.get(TASK).label].sum())) for f in frames]
        counts = {n for size, ill in sizes for n in (size, ill, size - ill)}
        counts.add(sum(size for size, _ in sizes))
        return Private(values, counts)


def played_to_its_end(four: Consortium, left: Left) -> None:
    """A job of two rounds, its end, and the test results; what ONE sends is kept."""
    for round in (1, 2):
        four.records, four.updates = type(four.records)(), {}
        for phase in Phase:
            reply = four.ask(phase, round)[ONE]
            assert not reply.error
            message = reply.to_record_dict().config_records["medpole"]
            left.blobs += [bytes(message["head"]), *message["entries"], *message["content"]]  # type: ignore[arg-type,misc]
        entries, model = four.result(round)
        four.add(entries)
    four.add([four.end_job("stopped", 2, model_hash(model))])
    four.cosign_all()
    evaluations = Evaluations(HospitalFolder(four.folders[ONE].path), Desk(left))  # type: ignore[arg-type]
    assert evaluations.step()
    left.blobs += [line.encode() for _, line in four.api.sent if f" {ONE} " in line]


class Desk(Api):
    """Takes test results."""

    def __init__(self, left: Left) -> None:
        super().__init__()
        self._left = left

    def submit(self, entry: bytes) -> None:
        self._left.blobs.append(entry)


@pytest.fixture(scope="module")
def job(
    founded: Consortium, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Left, Private]]:
    with repeatable(), pytest.MonkeyPatch.context() as patch:
        yield _job(copy_of(founded, tmp_path_factory.mktemp("job")), patch)


def _job(four: Consortium, patch: pytest.MonkeyPatch) -> tuple[Left, Private]:
    left = Left()
    private = Private.of(Cohort.open(HospitalFolder(four.folders[ONE].path), TASK))
    factors = closed_form.clip_factors

    def watched(squared: torch.Tensor, clip: float, clipping: str) -> torch.Tensor:
        found = factors(squared, clip, clipping)
        private.norms += [*squared.sqrt().tolist(), *found.tolist(), float((found < 1).sum())]
        return found

    patch.setattr(closed_form, "clip_factors", watched)
    played_to_its_end(four, left)
    return left, private


def leaks(left: Left, private: Private) -> list[str]:
    """What of it is in the messages, in words."""
    found = []
    texts = left.texts()
    for what, numbers in (("a value", private.values), ("a norm", set(private.norms))):
        # Short numbers are everybody's: 0.5 is a score too.
        telling = {n for n in numbers if len(repr(abs(n)).replace(".", "").strip("0")) >= 4}
        written = {float(text) for text in texts}
        found += [f"{what}, written: {n}" for n in telling & written]
        found += [f"{what}, in binary: {n}" for n in left.binary(telling)]
    for record in left.records():
        found += [f"a count: {path}" for path, n in integers(record) if n in private.counts]
    return found


def integers(value: Any, path: str = "") -> Iterator[tuple[str, int]]:
    """The integers of a record by their paths, those that are public left out."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in _PUBLIC:
                yield from integers(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from integers(inner, path)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield path, value
    elif isinstance(value, str) and re.fullmatch(r"\d{1,9}", value):
        yield path, int(value)


def test_no_message_of_a_job_holds_a_value_a_count_or_a_norm(job: tuple[Left, Private]) -> None:
    left, private = job
    types = [record["type"] for record in left.records()]
    assert sorted(set(types)) == ["close", "commitment", "evaluation", "proof", "verdict"]
    assert len(private.values) > 1000
    assert len(private.norms) > 100
    assert leaks(left, private) == []


@pytest.mark.parametrize("how", ["text", "double", "floats", "count"])
def test_the_search_would_find_them(job: tuple[Left, Private], how: str) -> None:
    left, private = job
    value = next(v for v in sorted(private.values) if len(repr(v)) > 5)
    planted = {
        "text": f'{{"loss":{value!r}}}'.encode(),
        "double": b"\x07" + struct.pack("<d", private.norms[3]),
        "floats": b"\x07\x07" + struct.pack(">2f", value, value),
        "count": b'{"body":{"type":"proof","n":%d}}' % max(private.counts),
    }[how]
    assert leaks(Left([*left.blobs, planted]), private) != []
