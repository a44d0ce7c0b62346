"""The OMOP Common Data Model (5.3 and 5.4) in a database: one row for each person.

The mapping names concept ids; the query is made from them, with one subquery for each column, so
the database does the work. A measurement's unit is its concept's UCUM code; one with an operator
(< 5) is no number. Of several values the first or newest by date counts, and among those of one day
the one with the smaller or larger id. A condition is "present" or "absent", by its records. Nothing
else is asked for; what more the person table says is looked at for identifiers and dropped.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from hospital_agent.errors import MappingFileInvalid
from hospital_agent.mapping import ColumnMapping, Mapping
from hospital_agent.sources.sql import Database, chunks_of

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import ColumnElement, Select, TableClause

PERSON: Final = "person_id"
_BORN: Final = ("year_of_birth", "month_of_birth", "day_of_birth")
_GENDER: Final = "gender_concept_id"
_VALUES: Final = ("value_as_number", "value_as_concept_id", "unit_concept_id")
_OPERATOR: Final = "operator_concept_id"
_EQUALS: Final = (0, 4172703)


class OmopDatabase:
    """The persons of a database, or of one of its cohorts."""

    kind = "omop"

    def __init__(self, database: Database, mapping: Mapping) -> None:
        self._database = database
        self._options = mapping.source
        self._mapped = {n: c for n, c in mapping.columns.items() if c.origin is None}
        for name, column in self._mapped.items():
            if not all(isinstance(code, int) for code in column.events):
                raise MappingFileInvalid(
                    f"the mapping file: columns.{name} holds something else than concept ids",
                    "write standard concept ids as numbers, like [3027114]",
                )

    def columns(self) -> list[str]:
        """The person, the mapping's columns, their units, and the person table's other columns.

        Raises:
            DatabaseUnreadable: if the database does not answer, or is no OMOP CDM.
        """
        return list(self._asked)

    def chunks(self, columns: Sequence[str] | None = None) -> "Iterator[pd.DataFrame]":
        """One row for each person, as `Source.chunks` describes them."""
        wanted = self.columns() if columns is None else list(columns)
        inexact = [name for name in wanted if self._measured(name)]
        names = [*wanted, *(f"{name}.inexact" for name in inexact)]
        with self._database.rows(self._query(names)) as result:
            for chunk in chunks_of(result, names, range(len(names))):
                for name in inexact:
                    rows = chunk[f"{name}.inexact"] == "1"
                    chunk.loc[rows, name] = "< or > " + chunk.loc[rows, name]
                yield chunk[wanted]

    @cached_property
    def _asked(self) -> dict[str, None]:
        units = [f"{n}.unit" for n, c in self._mapped.items() if _has_unit(c)]
        return dict.fromkeys([PERSON, *self._mapped, *units, *self._others])

    @cached_property
    def _others(self) -> list[str]:
        """The person table's columns that the rows have no use for."""
        from sqlalchemy import inspect

        with self._database.connected() as connection:
            found = inspect(connection).get_columns("person", schema=self._options.schema_name)
        used = {PERSON, *_BORN, _GENDER}
        return [f"person.{column['name']}" for column in found if column["name"] not in used]

    def _measured(self, name: str) -> bool:
        mapped = self._mapped.get(name)
        return mapped is not None and bool(mapped.measurement) and not mapped.coded

    def _table(self, name: str, *columns: str) -> "TableClause":
        from sqlalchemy import column, table

        return table(name, *map(column, columns), schema=self._options.schema_name)

    def _query(self, wanted: Sequence[str]) -> "Select[Any]":
        from sqlalchemy import select

        others = [name.removeprefix("person.") for name in self._others]
        person = self._table("person", PERSON, *_BORN, _GENDER, *others).alias("p")
        picked: dict[str, ColumnElement[Any]] = {PERSON: person.c.person_id}
        picked |= {f"person.{name}": person.c[name] for name in others}
        origin: Any = person
        for place, (name, mapped) in enumerate(self._mapped.items()):
            if mapped.measurement or mapped.observation:
                values = self._values(mapped).subquery(f"v{place}")
                at = (values.c.person_id == person.c.person_id) & (values.c.place == 1)
                origin = origin.outerjoin(values, at)
                picked[name] = values.c.value
                if _has_unit(mapped):
                    picked[f"{name}.unit"] = values.c.unit
                if self._measured(name):
                    picked[f"{name}.inexact"] = values.c.inexact
            else:
                picked[name] = self._of_person(person, mapped)
        query = select(*(picked[name].label(name) for name in wanted)).select_from(origin)
        if self._options.cohort is not None:
            cohort = self._table("cohort", "cohort_definition_id", "subject_id")
            members = select(cohort.c.subject_id)
            of_it = members.where(cohort.c.cohort_definition_id == self._options.cohort)
            query = query.where(person.c.person_id.in_(of_it))
        return query

    def _values(self, mapped: ColumnMapping) -> "Select[Any]":
        """Persons' values of one column, each with its place: 1 is the one that counts."""
        from sqlalchemy import case, func, select

        kind = "measurement" if mapped.measurement else "observation"
        names = (f"{kind}_id", f"{kind}_concept_id", f"{kind}_date", PERSON, *_VALUES, _OPERATOR)
        facts = self._table(kind, *names)
        value = facts.c.value_as_concept_id if mapped.coded else facts.c.value_as_number
        order: list[ColumnElement[Any]] = [facts.c[f"{kind}_date"], facts.c[f"{kind}_id"]]
        if mapped.take == "newest":
            order = [column.desc() for column in order]
        place = func.row_number().over(partition_by=facts.c.person_id, order_by=order)
        columns = [facts.c.person_id, value.label("value"), place.label("place")]
        query = select(*columns).where(facts.c[f"{kind}_concept_id"].in_(mapped.events))
        query = _within(query.where(value.is_not(None)), facts.c[f"{kind}_date"], mapped)
        if not _has_unit(mapped):
            return query
        unit = self._table("concept", "concept_id", "concept_code", "vocabulary_id")
        same = (unit.c.concept_id == facts.c.unit_concept_id) & (unit.c.vocabulary_id == "UCUM")
        other = case((facts.c.unit_concept_id != 0, "not in UCUM"))
        query = query.add_columns(func.coalesce(unit.c.concept_code, other).label("unit"))
        if mapped.measurement:
            known = facts.c[_OPERATOR].is_(None) | facts.c[_OPERATOR].in_(_EQUALS)
            query = query.add_columns(case((known, 0), else_=1).label("inexact"))
        return query.select_from(facts.outerjoin(unit, same))

    def _of_person(self, person: Any, mapped: ColumnMapping) -> "ColumnElement[Any]":
        from sqlalchemy import and_, case, literal, or_, select

        if mapped.condition:
            names = (PERSON, "condition_concept_id", "condition_start_date")
            facts = self._table("condition_occurrence", *names)
            known = select(literal(1)).where(
                facts.c.person_id == person.c.person_id,
                facts.c.condition_concept_id.in_(mapped.events),
            )
            there = _within(known, facts.c.condition_start_date, mapped).exists()
            return case((there, "present"), else_="absent")
        at = mapped.at
        if at is None:
            gender: ColumnElement[Any] = person.c[_GENDER]
            return gender
        later = or_(
            person.c.month_of_birth > at.month,
            and_(person.c.month_of_birth == at.month, person.c.day_of_birth > at.day),
        )
        age: ColumnElement[Any] = at.year - person.c.year_of_birth - case((later, 1), else_=0)
        return age


def _has_unit(column: ColumnMapping) -> bool:
    return bool(column.measurement or column.observation) and not column.coded


def _within(query: "Select[Any]", day: Any, mapped: ColumnMapping) -> "Select[Any]":
    if mapped.since is not None:
        query = query.where(day >= mapped.since.isoformat())
    return query if mapped.until is None else query.where(day <= mapped.until.isoformat())
