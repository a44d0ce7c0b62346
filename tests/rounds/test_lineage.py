"""Which models a ledger names, and what led to each: values from blocks, no folder, no network."""

from dataclasses import replace
from pathlib import Path

import pytest
from exported_ledger import Ledger, audited
from rounds_examples import names

from consortium.errors import ModelMissing, ModelUnproven
from consortium.lineage import NamedModel, lineage_of, named_models, namings
from consortium.model_files.files import FileFormat, ModelFile, model_bytes, read_model
from consortium.model_files.verification import trace
from consortium.registry import Registry, registry_of_export
from consortium.standing import Placed
from ledger.records import Job, Record, Result


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """A job whose first round was tried twice, stopped; then one that has begun, and no more."""
    with audited(tmp_path_factory.mktemp("lineage") / "contents") as ledger:
        ledger.add(ledger.sign(ledger.job()))
        played = ledger.play()
        early = replace(played.records, closes=played.records.closes[:2], proofs=(), verdicts=())
        ledger.add(*ledger.round(replace(played, records=early, examined={})))
        ledger.add(*ledger.round(ledger.play()))
        ledger.add(ledger.end("stopped"))
        ledger.add(ledger.sign(ledger.job("job-2")))
    return ledger


@pytest.fixture(scope="module")
def registry(ledger: Ledger) -> Registry:
    return registry_of_export(ledger.export(ledger.root.with_name("export")), ledger.id)


def placed(ledger: Ledger) -> list[Placed[Record]]:
    return [
        Placed(entry.record, block.header.first + position, block.header.height, 0)
        for block, _, _ in ledger.stored
        for position, entry in enumerate(block.entries)
    ]


def test_all_models_are_those_of_contracts_rounds_and_ends(
    ledger: Ledger, registry: Registry
) -> None:
    found = named_models(placed(ledger))
    assert [(one.kind, one.job, one.round) for one in found] == [
        ("initial", "job-1", None), ("round", "job-1", 1), ("released", "job-1", 1),
        ("initial", "job-2", None),
    ]  # fmt: skip
    assert [(one.model, one.index) for one in registry.models()] == [
        (one.model, one.index) for one in found
    ]
    assert {one.model for one in found if one.kind == "initial"} == {found[0].model}


def test_attempts_that_were_repeated_are_no_steps(ledger: Ledger) -> None:
    records = placed(ledger)
    released = namings(named_models(records), "job-1")[0]
    lineage = lineage_of(ledger.id, released, records)
    (step,) = lineage.steps
    assert [proof.institution for proof in step.proofs] == names(4)
    result = next(one for one in records if one.index == step.index).record
    assert isinstance(result, Result)
    assert (result.attempt, result.model_after) == (2, step.after)
    assert lineage.learned_from == lineage.participants == tuple(names(4))
    assert lineage.body()["rounds"][0]["proofs"][0]["update"] == step.proofs[0].update
    # Stopped before the rounds that count for the mean, it gives out its newest model.
    assert lineage.averaged == ((1,) if lineage.contract.record.average_from == 1 else ())


def test_a_name_means_the_release_first_and_never_two_models(ledger: Ledger) -> None:
    models = named_models(placed(ledger))
    first, of_round, released, other = models
    assert namings(models, "job-1") == [released]
    assert namings(models, released.model) == [released, of_round]  # one round: the same model
    assert namings(models, f" {first.model[:8].upper()} ") == [first, other]
    twin = replace(other, model=first.model[:10] + "0" * 54)
    with pytest.raises(ModelMissing, match="2 models are called"):
        namings([*models, twin], first.model[:9])
    for name in (first.model[:7], "", "job-3"):
        with pytest.raises(ModelMissing, match="no model is called"):
            namings(models, name)
    with pytest.raises(ModelMissing, match="has released no model"):
        namings(models, "job-2")


def test_a_model_needs_its_contract(ledger: Ledger) -> None:
    records = placed(ledger)
    released = namings(named_models(records), "job-1")[0]
    rest = [one for one in records if not isinstance(one.record, Job)]
    with pytest.raises(ModelMissing, match="not in this part of the ledger"):
        lineage_of(ledger.id, released, rest)


def file_of(registry: Registry, named: NamedModel, folder: Path) -> ModelFile:
    contract = registry.lineage(named).contract.record
    data = model_bytes(FileFormat.ONNX, named, contract, registry.weights(named.model))
    path = folder / f"{named.index}.onnx"
    path.write_bytes(data)
    return read_model(path)


def test_a_file_is_traced_to_the_record_that_it_names(registry: Registry, tmp_path: Path) -> None:
    """Untrained models of two jobs are one and the same; a file says whose it was taken as."""
    for named in registry.models():
        assert trace(file_of(registry, named, tmp_path), registry).lineage.named == named


def test_a_file_is_not_another_ledgers(registry: Registry, tmp_path: Path) -> None:
    with audited(tmp_path / "contents") as other:
        other.add(other.sign(other.job("another-job")))
        elsewhere = registry_of_export(other.export(tmp_path / "export", contents=False))
    first, _, released, _ = registry.models()
    with pytest.raises(ModelUnproven, match="no record of ledger"):
        trace(file_of(registry, released, tmp_path), elsewhere)
    # Every ledger's untrained model has these weights; the file says that it is of this one.
    with pytest.raises(ModelUnproven, match=r"differs .* in: metadata"):
        trace(file_of(registry, first, tmp_path), elsewhere)
