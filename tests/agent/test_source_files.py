"""CSV and Parquet as sources: what is wrong is said with a way out, no value is, nothing stays."""

import re
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import refused
from heart_table import TASK, check, codes, heart, report, written

from hospital_agent.errors import (
    DelimiterWrong,
    EncodingWrong,
    SourceEmpty,
    SourceTooLarge,
    TableUnreadable,
    TooManyColumns,
)
from hospital_agent.folder import HospitalFolder
from hospital_agent.sources import parquet, source
from hospital_agent.sources.csv_file import CsvFile
from hospital_agent.sources.parquet import ParquetFile
from hospital_agent.sources.source import CHUNK, MOST_CELLS, Source

SECRET = "19510704"


def read(table: Source) -> pd.DataFrame:
    return pd.concat(list(table.chunks()), ignore_index=True)


BAD = {
    "empty": (b"", SourceEmpty, "export"),
    "header only": (b"a,b\n", SourceEmpty, "export"),
    "semicolons": (b"a;b\n1;2\n", DelimiterWrong, 'delimiter = ";"'),
    "tabs": (b"a\tb\n1\t2\n", DelimiterWrong, 'delimiter = "\\t"'),
    "one column": (b"a\n1\n", TableUnreadable, "header"),
    "a line too long": (f"a,b\n1,2,{SECRET}\n".encode(), TableUnreadable, "line"),
    "a line too short": (f"a,b\n{SECRET}\n".encode(), TableUnreadable, "line"),
    "an open quote": (f'a,b\n1,"{SECRET}\n'.encode(), TableUnreadable, "quote"),
    "a header of values": (f"{SECRET},{SECRET}\n1,2\n".encode(), TableUnreadable, "keep one"),
    "another encoding": ("a,b\n1,Zürich\n".encode("cp1252"), EncodingWrong, "encoding ="),
    "mixed encodings": (
        "a,b\n1,Zürich\n".encode() + "2,Zürich\n".encode("cp1252"),
        EncodingWrong,
        "all of it as UTF-8",
    ),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), EncodingWrong, "utf-16"),
    "a million columns": (b"a," * 1_000_000 + b"b\n", TooManyColumns, "task's columns"),
    "a line without end": (b"a,b\n" + b"1" * 3_000_000, TableUnreadable, ""),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_table_is_refused_with_a_way_out(tmp_path: Path, name: str) -> None:
    content, error, way_out = BAD[name]
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(error) as refusal:
        read(CsvFile(path))
    assert refusal.value.code == error.__name__
    assert way_out in refusal.value.resolve
    assert SECRET not in refusal.value.what + refusal.value.resolve


def test_a_bad_source_stores_nothing(tmp_path: Path) -> None:
    folder = HospitalFolder.create(tmp_path / "h", "hospital-1", "H")
    for name, (content, error, _) in BAD.items():
        (tmp_path / "table.csv").write_bytes(content)
        refused(
            error.__name__, "hospital-agent", "data", "add", "a", "--task", TASK, "--source",
            tmp_path / "table.csv", "--home", folder.path, "--declared-patients", "40",
        )  # fmt: skip
        assert [path.name for path in folder.path.iterdir()] == ["hospital.json"], name


def test_a_byte_order_mark_and_each_spelling_of_missing(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbfa,b\n1,\nNA,nan\n null ,2\n")
    assert read(CsvFile(path)).to_dict("list") == {"a": ["1", None, None], "b": [None, None, "2"]}
    assert [list(c.columns) for c in CsvFile(path).chunks(["b"])] == [["b"]]


def test_other_delimiters_and_encodings_when_the_mapping_says_so(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("alter;ort\n47;Zürich\n".encode("cp1252"))
    assert read(CsvFile(path, ";", "cp1252"))["ort"].tolist() == ["Zürich"]
    with pytest.raises(EncodingWrong):
        read(CsvFile(path, ";"))


def test_european_decimals_are_said_and_then_read(tmp_path: Path) -> None:
    frame = heart()
    file = tmp_path / "t.csv"
    frame.to_csv(file, index=False, sep=";", decimal=",")
    semicolons = '[source]\ndelimiter = ";"\n'
    found = report(file, "--mapping", written(tmp_path / "m.toml", semicolons))
    assert codes(found) == ["DecimalComma"]
    assert found["problems"][0]["what"].startswith("oldpeak: at least 50 rows")
    commas = written(tmp_path / "c.toml", semicolons + 'decimal = ","\n')
    assert report(file, "--mapping", commas)["usable"]
    # A point is a thousands' sign there, and no decimal one: it is not guessed at.
    frame.to_csv(file, index=False, sep=";")
    assert codes(report(file, "--mapping", commas)) == ["DataInvalid"]


def test_a_missing_outcome_column_is_said(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    heart().drop(columns="disease").to_csv(file, index=False)
    found = report(file)
    assert codes(found) == ["LabelsMissing"]
    assert "[columns.disease]" in found["problems"][0]["resolve"]
    heart().astype(object).replace({"disease": {1: None}}).to_csv(file, index=False)
    assert "no outcome" in report(file)["problems"][0]["what"]


def test_parquet_gives_the_same_report_as_csv(tmp_path: Path) -> None:
    frame = heart()
    frame["name"] = "Wyrzykowski"
    frame.loc[3, "chol"] = None
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=20)
    of_csv, of_parquet = report(tmp_path / "t.csv"), report(tmp_path / "t.parquet")
    assert of_parquet.pop("kind") == "parquet"
    of_csv.pop("kind")
    assert of_parquet == of_csv
    assert of_csv["usable"]
    some = list(ParquetFile(tmp_path / "t.parquet").chunks(["sex", "age"]))
    assert [list(chunk.columns) for chunk in some] == [["sex", "age"]] * len(some)
    assert sum(map(len, some)) == len(frame)


def test_a_bomb_is_refused_by_what_it_says_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    from pyarrow import parquet as writer

    path = tmp_path / "bomb.parquet"
    zeros = np.zeros(5_000_000, dtype=np.int8)
    writer.write_table(pa.table({"a": zeros, "b": zeros}), path, compression="zstd")
    assert path.stat().st_size < 100_000
    with pytest.raises(SourceTooLarge, match="times its size"):
        ParquetFile(path).columns()
    monkeypatch.setattr(parquet, "MOST_OF_A_GROUP", 1_000)
    heart().to_parquet(path)
    with pytest.raises(SourceTooLarge, match="row groups"):
        ParquetFile(path).columns()


def lying_bomb(path: Path, letters: int) -> Path:
    """A small file with one cell of so many letters."""
    import pyarrow as pa
    from pyarrow import parquet as writer

    table = pa.table({"a": ["x" * letters], "b": [1]})
    writer.write_table(table, path, compression="zstd", use_dictionary=False)
    return path


BELIEVE_NOTHING = {"MOST_EXPANSION": 10**9, "MOST_OF_A_GROUP": 10**12}
"""Limits under which what the file says of itself refuses nothing, as if it had lied."""


def test_a_bomb_that_lies_is_stopped_by_the_length_of_a_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in BELIEVE_NOTHING.items():
        monkeypatch.setattr(parquet, name, value)
    with pytest.raises(SourceTooLarge, match="longer than"):
        read(ParquetFile(lying_bomb(tmp_path / "bomb.parquet", 50_000_000)))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the limit is Linux's")
def test_a_bomb_that_lies_is_stopped_by_the_limit_of_memory(tmp_path: Path) -> None:
    path = lying_bomb(tmp_path / "bomb.parquet", 2 * 10**9)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from hospital_agent.sources import parquet\n"
        f"vars(parquet).update({BELIEVE_NOTHING})\n"
        "try:\n"
        "    list(parquet.ParquetFile(Path(sys.argv[1])).chunks())\n"
        "except parquet.SourceTooLarge as error:\n"
        "    print(error.what)\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )
    said, kibibytes = printed_by(code, path)
    assert "more memory" in said
    assert int(kibibytes) < 400 * 1024


def test_cells_and_columns_that_are_no_measurements_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"a": ["x" * 20_000], "b": [1]}).to_parquet(path)
    with pytest.raises(SourceTooLarge, match="longer than"):
        read(ParquetFile(path))
    pd.DataFrame({"a": [[1, 2]], "b": [1]}).to_parquet(path)
    with pytest.raises(TableUnreadable, match="lists"):
        ParquetFile(path).columns()
    pd.DataFrame({"a": [b"\x00"], "b": [1]}).to_parquet(path)
    with pytest.raises(TableUnreadable, match="bytes"):
        read(ParquetFile(path))
    pd.DataFrame({"a": [1.0], "b": [2.0]}).head(0).to_parquet(path)
    with pytest.raises(SourceEmpty):
        read(ParquetFile(path))
    whole = path.read_bytes()
    for content in (b"", b"PAR1", whole[: len(whole) // 2], b"a,b\n1,2\n"):
        path.write_bytes(content)
        with pytest.raises(TableUnreadable):
            ParquetFile(path).columns()


# flat memory, and speed


def big(path: Path, megabytes: float) -> Path:
    """A CSV of so many megabytes: patients with numbers, and wide notes beside them."""
    block = heart(500)
    block["comment"] = "see file " * 30
    text = block.to_csv(index=False)
    header, _, rows = text.partition("\n")
    with path.open("w") as file:
        file.write(header + "\n")
        while file.tell() < megabytes * 2**20:
            file.write(rows)
    return path


def peak(path: Path) -> int:
    """The most bytes that Python and NumPy held while a file was checked."""
    tracemalloc.start()
    try:
        assert check(path).out.endswith("usable\n")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "CHUNK", 1_000)
    small, large = peak(big(tmp_path / "a.csv", 0.7)), peak(big(tmp_path / "b.csv", 2))
    assert large < small * 1.1


@pytest.fixture
def gigabyte(tmp_path: Path) -> Iterator[Path]:
    path = big(tmp_path / "gigabyte.csv", 1024)
    yield path
    path.unlink()


@pytest.mark.slow
def test_memory_is_flat_on_a_gigabyte(gigabyte: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from hospital_agent.data import check\n"
        "from hospital_agent.sources.opening import Address\n"
        f"print(check('{TASK}', Address(sys.argv[1])).rows)\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )
    rows, kibibytes = printed_by(code, gigabyte)
    assert rows == "2000000 to 4999999"
    assert int(kibibytes) < 400 * 1024


def printed_by(code: str, path: Path) -> list[str]:
    """Lines that a fresh process prints: its memory is its own."""
    command = [sys.executable, "-c", code, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_wide_tables_come_in_smaller_chunks(tmp_path: Path) -> None:
    columns = 600
    path = tmp_path / "wide.csv"
    path.write_text(",".join(f"c{i}" for i in range(columns)) + ("\n" + "1," * 599 + "1") * 1_000)
    sizes = [len(chunk) for chunk in CsvFile(path).chunks()]
    assert sum(sizes) == 1_000
    assert max(sizes) * columns <= MOST_CELLS
    assert max(sizes) < CHUNK


def test_fifty_thousand_rows_are_checked_within_five_seconds(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    frame = heart(50_000)
    frame.insert(0, "patient_id", [f"P-{number}" for number in range(len(frame))])
    frame.to_csv(file, index=False)
    start = time.process_time()
    done = check(file)
    assert time.process_time() - start < 5
    assert re.search(r"k, l, t +at least 200, 2, at most 0\.\d\d", done.out)
