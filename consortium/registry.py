"""The registry of models: all that a ledger names, with lineage, weights and card.

There is no list of models beside the ledger that could say otherwise. A registry reads the final
blocks of a home's database, or an export that is verified first; weights lie under their hash and
are checked whenever they are read.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consortium.errors import ModelMissing, PartMissing, RoundInvalid
from consortium.lineage import TYPES, Lineage, NamedModel, lineage_of, named_models, namings
from consortium.standing import JobStanding, Placed, enter
from ledger.errors import ContentInvalid, ContentMissing
from ledger.reading import read_blocks
from ledger.records import Evaluation, Record
from ledger.verify import Verified, verify_export

if TYPE_CHECKING:  # an auditor has no database, and needs no numpy to look at a list
    from consortium.home import Home
    from ledger.content import Weights
    from ledger.store import LedgerStore

_AT_ONCE = 500
Records = Callable[[Sequence[str], str | None], Iterable[Placed[Record]]]
"""(types, job or None for all) -> those records of final blocks, in the ledger's order."""


@dataclass(frozen=True)
class Registry:
    """All models of one ledger. ``verified``: of an export, what was found to hold."""

    ledger: str
    records: Records
    weights: "Callable[[str], Weights]"
    verified: Verified | None = None

    def models(self) -> list[NamedModel]:
        """Every model that a record names, oldest first."""
        return named_models(self.records(TYPES, None))

    def find(self, name: str) -> NamedModel:
        """A model by its hash, a part of it, or the job that released it.

        Raises:
            ModelMissing: if no model is meant, or more than one.
        """
        return namings(self.models(), name)[0]

    def lineage(self, named: NamedModel) -> Lineage:
        """What led to a model.

        Raises:
            ModelMissing: if the job's contract lies before what this export begins with.
        """
        return lineage_of(self.ledger, named, self.records(("proof", *TYPES), named.job))

    def card(self, named: NamedModel) -> str:
        """The card of a released model, as Markdown.

        Raises:
            ModelMissing: if it is not the one that its job released.
            PartMissing: if what tasks are made of is not installed.
        """
        try:
            from consortium.model_card import model_card
        except ModuleNotFoundError as error:
            raise PartMissing(
                f"a card needs {error.name}, which is not installed", "pip install 'medpole[agent]'"
            ) from None

        if named.kind != "released":
            raise ModelMissing(
                f"the model of {named.title} of {named.job} has no card: it was not released",
                f"see `consortium model show {named.model[:16]}` for where it comes from",
            )
        records = list(self.records((*TYPES, "evaluation"), named.job))
        jobs: dict[str, JobStanding] = {}
        for placed in records:
            enter(jobs, placed.record, placed.index, placed.height, placed.time)
        said = [one.record for one in records if isinstance(one.record, Evaluation)]
        return model_card(lineage_of(self.ledger, named, records), jobs[named.job], said)


def registry_of_store(store: "LedgerStore", weights: "Callable[[str], Weights]") -> Registry:
    """The registry of a database's ledger, up to its newest final block."""
    final = store.final_height()

    def records(types: Sequence[str], job: str | None) -> Iterator[Placed[Record]]:
        past = -1
        while found := store.listing.entries(types, job, past=past, limit=_AT_ONCE):
            for one in found:
                if one.height > final:
                    return
                yield Placed(one.entry.stored, one.index, one.height, one.time)
            past = found[-1].index

    return Registry(store.chain().ledger, records, weights)


def registry_of_export(folder: Path, pinned: str | None = None) -> Registry:
    """The registry of an export in a folder, which is verified first.

    Raises:
        LedgerError: naming the first thing that does not verify.
    """
    verified = verify_export(folder, pinned)

    def records(types: Sequence[str], job: str | None) -> Iterator[Placed[Record]]:
        for block, _ in read_blocks(folder):
            header = block.header
            for position, entry in enumerate(block.entries):
                if not entry.names_type(*types):
                    continue
                record: Any = entry.record
                if record.type in types and job in (None, record.job):
                    yield Placed(record, header.first + position, header.height, header.time)

    return Registry(verified.ledger, records, lambda name: _exported(folder, name), verified)


@contextmanager
def opened_registry(
    home: Path, export: Path | None = None, pinned: str | None = None
) -> Iterator[Registry]:
    """The registry of an exported folder or archive if one is given, else of a home.

    Raises:
        LedgerError, ConsortiumError: as what is opened.
    """
    if export is not None:
        from ledger.archive import opened

        with opened(export) as folder:
            yield registry_of_export(folder, pinned)
        return
    from consortium.local import open_ledger

    with open_ledger(home, shared=True) as (local, store):
        yield registry_of_store(store, lambda name: _at_home(local, store, name))


def _at_home(home: "Home", store: "LedgerStore", name: str) -> "Weights":
    try:
        return home.models.get(name)
    except ContentMissing:
        from consortium.coordinator.view import StoreView  # makes an untrained model anew

        return StoreView(store, home.content, home.models).model(name)


def _exported(folder: Path, name: str) -> "Weights":
    from consortium import weights as weight_forms
    from ledger.content import model_hash

    try:
        weights = weight_forms.from_bytes((folder / "models" / name).read_bytes())
        same = model_hash(weights) == name
    except FileNotFoundError:
        raise ContentMissing(
            f"model {name[:16]}… is not in this export", "make the export with --content"
        ) from None
    except RoundInvalid:
        same = False
    if not same:
        raise ContentInvalid(
            f"models/{name[:16]}… is not what the ledger names so",
            "ask for the original export, with --content",
        )
    return weights
