"""Tables: typed refusals that name columns and counts, fixed encoding, canonical fingerprints."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consortium import tasks
from consortium.tasks.errors import DataInvalid, TaskUnknown
from consortium.tasks.network import Mlp
from consortium.tasks.schema import Table

HEART = tasks.get("heart-disease")


def table(**columns: object) -> pd.DataFrame:
    """Three healthy patients at the reference, columns replaced by `columns`."""
    plain = {
        "age": [55, 55, 55],
        "sex": [1, 0, 1],
        "trestbps": [130, 130, 130],
        "chol": [240, 240, 240],
        "fbs": [0, 0, 0],
        "thalach": [140, 140, 140],
        "exang": [0, 0, 0],
        "oldpeak": [1, 1, 1],
        "cp": [1, 1, 1],
        "restecg": [0, 0, 0],
        "disease": [0, 1, 0],
    }
    return pd.DataFrame({**plain, **columns})


def test_reference_values_encode_to_zero_and_so_do_missing_ones() -> None:
    reference = HEART.encode(table(age=[55, None, 55], chol=[240, None, 240]))
    assert reference.shape == (3, 13)
    assert reference.dtype == np.float32
    assert np.array_equal(reference[0], reference[2])
    assert reference[1, 0] == reference[1, 3] == 0


def test_values_are_scaled_and_clamped_and_levels_get_columns() -> None:
    encoded = HEART.encode(table(age=[65, 120, 5], cp=[1, 3, None]))
    assert encoded[:, 0].tolist() == [1, 3, -3]
    assert encoded[:, 8:11].tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (table().drop(columns=["chol", "age"]), "lacks age, chol"),
        (table().drop(columns=["disease"]), "lacks disease"),
        (table().iloc[:0], "no row"),
        (table(chol=[240, "high", "low"]), "chol: 2 of 3 rows are not numbers"),
        (table(chol=[0, 240, 240]), "chol: 1 of 3 rows lie outside"),
        (table(age=[np.inf, 55, 55]), "age: 1 of 3 rows lie outside"),
        (table(cp=[0, 1, 9]), "cp: 2 of 3 rows lie outside"),
        (table(disease=[0, 2, None]), "disease: 2 of 3 rows are neither 0 nor 1"),
        (pd.concat([table(), table()[["age"]]], axis=1), "age more than once"),
    ],
)
def test_wrong_tables_are_refused_by_column_and_count(frame: pd.DataFrame, said: str) -> None:
    with pytest.raises(DataInvalid, match=said) as caught:
        HEART.check(frame)
    assert caught.value.code == "DataInvalid"
    assert caught.value.resolve


def test_a_refusal_holds_no_value_of_a_patient() -> None:
    with pytest.raises(DataInvalid) as caught:
        HEART.check(table(chol=[240, "Mrs Smith", 240]))
    assert "Smith" not in caught.value.what + caught.value.resolve
    with pytest.raises(DataInvalid) as caught:
        HEART.check(table(age=[55, 4711, 55]))
    assert "4711" not in caught.value.what + caught.value.resolve


def test_columns_outside_the_schema_are_never_read() -> None:
    assert np.array_equal(HEART.encode(table(name=["a", "b", "c"])), HEART.encode(table()))


@given(st.lists(st.floats(0, 8000) | st.none(), min_size=1, max_size=5))
def test_every_encoded_value_is_finite_and_bounded(areas: list[float | None]) -> None:
    task = tasks.get("breast-cancer")
    columns = {f.name: [float(f.high)] * len(areas) for f in task.features}
    encoded = task.encode(pd.DataFrame({**columns, "mean_area": areas}))
    assert np.isfinite(encoded).all()
    assert np.abs(encoded).max() <= 3


def test_fingerprints_tell_tasks_and_their_constants_apart() -> None:
    task = tasks.get("breast-cancer")
    changed_feature = dataclasses.replace(task.features[0], centre=task.features[0].centre + 1)
    table = task.inputs
    assert isinstance(table, Table)
    others = [
        HEART,
        dataclasses.replace(task, network=Mlp((8,))),
        dataclasses.replace(
            task, inputs=dataclasses.replace(table, common_share=table.common_share / 2)
        ),
        dataclasses.replace(task, inputs=Table((changed_feature, *task.features[1:]))),
        dataclasses.replace(task, recipe=dataclasses.replace(task.recipe, rounds=11)),
    ]
    prints = {task.fingerprint(), *(other.fingerprint() for other in others)}
    assert len(prints) == 1 + len(others)
    assert all(len(text) == 64 for text in prints)
    assert task.fingerprint() == dataclasses.replace(task).fingerprint()


def test_an_unknown_task_lists_the_known() -> None:
    with pytest.raises(TaskUnknown) as caught:
        tasks.get("lung-cancer")
    assert "breast-cancer, heart-disease" in caught.value.resolve
