"""Damage to every kind of file, and what a start makes of it: the longest valid prefix, and never a phantom."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from logqueue.records import Record, build_batch
from logqueue.storage import Environment, LogDirectory, PartitionLog
from logqueue.storage.segment import Segment
from tests.storage.disks import HastyFileSystem
from tests.storage.workload import NOW, PLAIN, batch_of, empty, open_directory, read_all

FIRST = "plain-0/00000000000000000000"


def opened(folder: Path) -> LogDirectory:
    return open_directory(folder, Environment(fs=HastyFileSystem()))


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A data folder after a clean shutdown: one segment of 20 batches, of two records each."""
    folder = tmp_path / "closed"
    directory = opened(folder)
    directory.create_topic("plain", partitions=1, properties={"index.interval.bytes": "200"})
    for number in range(20):
        batch = batch_of(number, count=2, producer_id=5, producer_epoch=0, base_sequence=2 * number)
        directory.logs[PLAIN].append(batch, leader_epoch=0, now_ms=NOW)
    directory.close()
    return folder


@pytest.fixture
def crashed(closed: Path) -> Path:
    """The same as a killed process leaves it before its first checkpoint."""
    for name in (".kafka_cleanshutdown", f"{FIRST}.index", f"{FIRST}.timeindex"):
        (closed / name).unlink()
    (closed / "recovery-point-offset-checkpoint").write_text("0\n0\n")
    (closed / "plain-0/00000000000000000040.snapshot").unlink()
    return closed


def damaged(source: Path, tmp_path: Path, name: str, content: bytes) -> Path:
    target = empty(tmp_path / "damaged")
    shutil.copytree(source, target, dirs_exist_ok=True)
    (target / name).write_bytes(content)
    return target


def batch_ends(log_file: bytes) -> list[int]:
    ends, position = [0], 0
    while position < len(log_file):
        position += 12 + int.from_bytes(log_file[position + 8 : position + 12], "big")
        ends.append(position)
    return ends


def kept_records(folder: Path) -> int:
    """Open, check everything readable against what was sent, answer how many records there are; then go on."""
    directory = opened(folder)
    log = directory.logs[PLAIN]
    records = read_all(log)
    assert [value for _, value in records] == [
        b"%d.%d " % (offset // 2, offset % 2) + b"v" * 60 for offset in range(len(records))
    ]
    entry = log.producer_state.get(5)
    assert (entry.last_sequence if entry else -1) == len(records) - 1
    result = log.append(batch_of(999), leader_epoch=0, now_ms=NOW)
    assert result.base_offset == len(records)
    directory.close()
    return len(records)


def test_a_torn_tail_is_cut_at_every_byte_of_the_last_batches(crashed: Path, tmp_path: Path) -> None:
    whole = (crashed / f"{FIRST}.log").read_bytes()
    ends = batch_ends(whole)
    for size in range(ends[-3], len(whole)):
        folder = damaged(crashed, tmp_path, f"{FIRST}.log", whole[:size])
        assert kept_records(folder) == 2 * (sum(end <= size for end in ends) - 1)


def test_a_flipped_byte_in_the_tail_cuts_the_log_there(crashed: Path, tmp_path: Path) -> None:
    whole = (crashed / f"{FIRST}.log").read_bytes()
    ends = batch_ends(whole)
    for position in range(ends[-3], len(whole)):
        content = bytearray(whole)
        content[position] ^= 0x41
        folder = damaged(crashed, tmp_path, f"{FIRST}.log", bytes(content))
        is_epoch = (position - max(end for end in ends if end <= position)) in range(12, 16)
        expected = 40 if is_epoch else 2 * (sum(end <= position for end in ends) - 1)
        assert kept_records(folder) == expected, position


@pytest.mark.parametrize(
    "tail", [bytes(10), bytes(4096), b"\xff" * 100, b"garbage" * 300, bytes(8) + b"\x7f\xff\xff\xff" + bytes(80)]
)
def test_a_tail_of_zeros_or_garbage_is_cut(crashed: Path, tmp_path: Path, tail: bytes) -> None:
    whole = (crashed / f"{FIRST}.log").read_bytes()
    assert kept_records(damaged(crashed, tmp_path, f"{FIRST}.log", whole + tail)) == 40


def test_a_valid_batch_that_does_not_follow_is_cut(crashed: Path, tmp_path: Path) -> None:
    whole = (crashed / f"{FIRST}.log").read_bytes()
    for offset in (0, 39, 41, 10**6):
        tail = build_batch([Record(timestamp_ms=NOW, value=b"phantom")], base_offset=offset)
        assert kept_records(damaged(crashed, tmp_path, f"{FIRST}.log", whole + tail)) == 40


def test_what_was_cut_is_reported(crashed: Path, tmp_path: Path) -> None:
    whole = (crashed / f"{FIRST}.log").read_bytes()
    directory = opened(damaged(crashed, tmp_path, f"{FIRST}.log", whole[:-1]))
    (cut,) = directory.cuts
    assert (cut.file.name, cut.position, cut.offset) == ("00000000000000000000.log", batch_ends(whole)[-2], 38)
    assert cut.bytes_removed == len(whole) - 1 - cut.position
    assert not cut.was_durable
    assert "torn tail" in str(cut) and "offset 38" in str(cut)
    directory.close()


def test_damage_below_the_recovery_point_is_told_from_a_torn_tail(crashed: Path, tmp_path: Path) -> None:
    (crashed / "recovery-point-offset-checkpoint").write_text("0\n1\nplain 0 30\n")
    whole = bytearray((crashed / f"{FIRST}.log").read_bytes())
    whole[batch_ends(bytes(whole))[5] + 70] ^= 1
    directory = opened(damaged(crashed, tmp_path, f"{FIRST}.log", bytes(whole)))
    assert [(cut.offset, cut.was_durable) for cut in directory.cuts] == [(10, True)]
    directory.close()


@pytest.mark.parametrize("suffix", ["index", "timeindex"])
@pytest.mark.parametrize("was_clean", [True, False])
def test_a_damaged_index_is_never_believed(closed: Path, tmp_path: Path, suffix: str, was_clean: bool) -> None:
    if not was_clean:
        (closed / ".kafka_cleanshutdown").unlink()
    whole = (closed / f"{FIRST}.{suffix}").read_bytes()
    contents = [whole[:size] for size in range(len(whole))]
    contents += [whole + bytes(size) for size in (1, 8, 12, 4096)]
    for content in [*contents, bytes(len(whole)), b"\xff" * len(whole), b""]:
        assert kept_records(damaged(closed, tmp_path, f"{FIRST}.{suffix}", content)) == 40


@pytest.mark.parametrize("was_clean", [True, False])
def test_a_time_index_that_was_being_made_anew_when_the_power_went_is_made_at_the_next_start(
    tmp_path: Path, was_clean: bool
) -> None:
    folder = tmp_path / "data"
    directory = opened(folder)
    directory.create_topic("plain", partitions=1, properties={"internal.segment.bytes": "1000"})
    for number in range(20):
        directory.logs[PLAIN].append(batch_of(number, count=2), leader_epoch=0, now_ms=NOW)
    directory.close()
    if not was_clean:
        (folder / ".kafka_cleanshutdown").unlink()
    index = folder / f"{FIRST}.timeindex"
    whole = index.read_bytes()
    assert whole and len(list(folder.glob("plain-0/*.log"))) > 2
    index.write_bytes(b"")
    opened(folder).close()
    assert index.read_bytes() == whole


def test_a_damaged_snapshot_is_replaced_by_a_replay(closed: Path, tmp_path: Path) -> None:
    name = "plain-0/00000000000000000040.snapshot"
    whole = (closed / name).read_bytes()
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= 0x10
        assert kept_records(damaged(closed, tmp_path, name, bytes(content))) == 40
        assert kept_records(damaged(closed, tmp_path, name, whole[:position])) == 40


@pytest.mark.parametrize(
    "name",
    ["recovery-point-offset-checkpoint", "log-start-offset-checkpoint", "plain-0/leader-epoch-checkpoint"],
)
@pytest.mark.parametrize("content", [b"", b"0\n", b"0\n5\nplain 0 3\n", b"9\n0\n", b"\xff\xfe\x00", b"0\n1\nx y z\n"])
def test_a_damaged_checkpoint_costs_time_but_no_record(closed: Path, tmp_path: Path, name: str, content: bytes) -> None:
    (closed / ".kafka_cleanshutdown").unlink()
    assert kept_records(damaged(closed, tmp_path, name, content)) == 40


def test_a_torn_partition_metadata_is_written_again(closed: Path, tmp_path: Path) -> None:
    whole = (closed / "plain-0/partition.metadata").read_bytes()
    for size in range(len(whole)):
        folder = damaged(closed, tmp_path, "plain-0/partition.metadata", whole[:size])
        assert kept_records(folder) == 40
        assert (folder / "plain-0/partition.metadata").read_bytes() == whole


def rolled(tmp_path: Path) -> tuple[Path, list[int]]:
    """A folder with several segments, closed; and their base offsets."""
    folder = tmp_path / "rolled"
    directory = opened(folder)
    directory.create_topic("plain", partitions=1, properties={"segment.bytes": "800", "index.interval.bytes": "100"})
    for number in range(20):
        batch = batch_of(number, count=2, producer_id=5, producer_epoch=0, base_sequence=2 * number)
        directory.logs[PLAIN].append(batch, leader_epoch=0, now_ms=NOW)
    directory.close()
    return folder, sorted(int(path.stem) for path in (folder / "plain-0").glob("*.log"))


def test_missing_indexes_of_old_segments_are_rebuilt_as_they_were(tmp_path: Path) -> None:
    folder, bases = rolled(tmp_path)
    files = {path: path.read_bytes() for base in bases for path in (folder / "plain-0").glob(f"{base:020d}.*index")}
    assert len(files) == 2 * len(bases)
    for path in files:
        path.unlink()
    assert kept_records(folder) == 40
    changed = [path.name for path, content in files.items() if path.read_bytes() != content]
    assert all(name.startswith(f"{bases[-1]:020d}") for name in changed)  # the one that was appended to


def test_an_index_written_on_the_way_equals_one_that_recovery_builds(tmp_path: Path) -> None:
    folder, _ = rolled(tmp_path)
    before = {path.name: path.read_bytes() for path in (folder / "plain-0").glob("*index")}
    (folder / ".kafka_cleanshutdown").unlink()
    (folder / "recovery-point-offset-checkpoint").unlink()
    directory = opened(folder)
    directory.close()
    assert {path.name: path.read_bytes() for path in (folder / "plain-0").glob("*index")} == before


def test_segments_behind_a_defect_are_dropped(tmp_path: Path) -> None:
    folder, bases = rolled(tmp_path)
    (folder / ".kafka_cleanshutdown").unlink()
    (folder / "recovery-point-offset-checkpoint").write_text("0\n0\n")
    path = folder / f"plain-0/{bases[2]:020d}.log"
    path.write_bytes(path.read_bytes()[:-5])
    assert kept_records(folder) < bases[3]
    assert sorted(int(path.stem) for path in (folder / "plain-0").glob("*.log")) == bases[:3]


def test_leftovers_of_a_crash_are_cleared(closed: Path) -> None:
    folder = closed / "plain-0"
    content = (folder / "00000000000000000000.log").read_bytes()
    for name in ("00000000000000000040.log.cleaned", "00000000000000000000.index.cleaned", "x.tmp"):
        (folder / name).write_bytes(b"half")
    for suffix in ("log", "index", "timeindex"):
        (folder / f"00000000000000000100.{suffix}.deleted").write_bytes(content)
    (folder / "00000000000000000200.index").write_bytes(b"")
    (folder / "00000000000000000200.snapshot").write_bytes(b"")
    assert kept_records(closed) == 40
    names = {path.name for path in folder.iterdir()}
    assert not [name for name in names if name.endswith((".cleaned", ".deleted", ".tmp"))]
    assert "00000000000000000200.index" not in names
    assert "00000000000000000200.snapshot" not in names


def test_a_finished_swap_takes_the_place_of_the_segments_it_was_made_from(tmp_path: Path) -> None:
    folder, bases = rolled(tmp_path)
    partition = folder / "plain-0"
    joined = b"".join((partition / f"{base:020d}.log").read_bytes() for base in bases[:2])
    (partition / f"{bases[0]:020d}.log.swap").write_bytes(joined)
    (partition / f"{bases[0]:020d}.index.swap").write_bytes(b"")
    assert kept_records(folder) == 40
    assert sorted(int(path.stem) for path in partition.glob("*.log")) == [bases[0], *bases[2:]]


def test_recovery_starts_at_the_recovery_point(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (closed / ".kafka_cleanshutdown").unlink()
    taken: list[int] = []
    account = Segment.account

    def counted(self: Segment, position: int, size: int, last_offset: int, max_timestamp: int) -> None:
        taken.append(last_offset)
        account(self, position, size, last_offset, max_timestamp)

    monkeypatch.setattr(Segment, "account", counted)
    directory = opened(closed)
    assert directory.logs[PLAIN].log_end_offset == 40
    assert min(taken) > 30
    directory.close()


def test_a_log_that_lost_its_tail_below_its_start_goes_on_at_the_start_and_says_so(
    crashed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (crashed / "log-start-offset-checkpoint").write_text("0\n1\nplain 0 30\n")
    path = crashed / f"{FIRST}.log"
    size = batch_ends(path.read_bytes())[10]
    path.write_bytes(path.read_bytes()[:size])
    directory = opened(crashed)
    log: PartitionLog = directory.logs[PLAIN]
    assert (log.log_start_offset, log.log_end_offset) == (30, 30)
    said = [line for line in caplog.messages if "deleted up to offset 30" in line]
    assert len(said) == 1 and f"1 segment(s) with {size} bytes from offset 0 on are removed" in said[0]
    assert log.append(batch_of(1), leader_epoch=0, now_ms=NOW).base_offset == 30
    log.flush()
    directory.close()
    directory = opened(crashed)
    assert (directory.logs[PLAIN].log_start_offset, directory.logs[PLAIN].log_end_offset) == (30, 31)
    directory.close()
