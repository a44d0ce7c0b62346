"""When an institution last asked, and with which version of the agent."""

from pathlib import Path

from consortium.last_seen import LastSeen


def test_noted_to_the_minute_with_the_version(tmp_path: Path) -> None:
    now = [6_001.0]
    seen = LastSeen(tmp_path, lambda: now[0])
    seen.note("north", "medpole-agent/1.2.3")
    assert seen.all() == {"north": (6_000, "1.2.3")}
    now[0] = 6_059.0
    seen.note("north", "medpole-agent/1.2.4")
    assert seen.all() == {"north": (6_000, "1.2.3")}  # nobody makes a disk write more often
    now[0] = 6_060.0
    seen.note("north", "medpole-agent/1.2.4")
    assert seen.all() == {"north": (6_060, "1.2.4")}
    now[0] = 6_120.0
    seen.note("north", "curl/8 <script>")
    seen.note("south", "medpole-agent/" + "9" * 41 + " x")
    assert seen.all() == {"north": (6_120, None), "south": (6_120, None)}


def test_nothing_is_written_twice_a_minute(tmp_path: Path) -> None:
    seen = LastSeen(tmp_path, lambda: 6_001.0)
    seen.note("north", "medpole-agent/1")
    file = tmp_path / "coordinator" / "network.sqlite"
    before = file.stat().st_mtime_ns
    seen.note("north", "medpole-agent/1")
    assert file.stat().st_mtime_ns == before


def test_a_disk_that_takes_nothing_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "coordinator").write_text("a file where the folder belongs")
    LastSeen(tmp_path).note("north", "medpole-agent/1")
