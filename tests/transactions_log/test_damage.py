"""Transaction indexes that are torn, cut, flipped, lost or strangers: nothing aborted is ever shown."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from pathlib import Path

import pytest

from logqueue.errors import LogqueueError
from logqueue.storage import PartitionLog
from logqueue.storage.environment import Environment
from logqueue.storage.txn_index import ENTRY, parse_entries
from tests.crash.faults import EIO, FaultyFileSystem
from tests.storage.workload import open_directory
from tests.transactions_log.writing import end, new_log, produce, read_committed, reopen


def fill(folder: Path) -> None:
    """Several segments with aborted and committed transactions, one of them over three segments; a clean stop."""
    directory, log = new_log(folder, **{"index.interval.bytes": "200"})
    produce(log, 9, 0)
    for number in range(20):
        produce(log, 1, 2 * number, count=2)
        produce(log, 2, number)
        produce(log, 3, number, transactional=False)
        end(log, 1, commit=number % 3 == 0)
        end(log, 2, commit=number % 2 == 0)
        if number == 9:
            end(log, 9, commit=False)
    directory.close()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled") / "data"
    folder.mkdir()
    fill(folder)
    return folder


def seen(log: PartitionLog) -> tuple[list[int], list[tuple[int, int]]]:
    found = log.aborted_transactions(0, log.last_stable_offset)
    return read_committed(log, offset=0, max_bytes=700), sorted((each.first_offset, each.producer_id) for each in found)


@pytest.fixture(scope="module")
def truth(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[int], list[tuple[int, int]]]:
    copy = tmp_path_factory.mktemp("truth") / "data"
    shutil.copytree(filled, copy)
    directory, log = reopen(copy)
    result = seen(log)
    directory.close()
    aborted = [number for number in range(20) if number % 3], [number for number in range(20) if number % 2]
    assert len(result[1]) == len(aborted[0]) + len(aborted[1]) + 1
    assert len(result[0]) == 20 + 2 * (20 - len(aborted[0])) + (20 - len(aborted[1]))
    return result


def indexes(folder: Path) -> list[Path]:
    return sorted((folder / "plain-0").glob("*.txnindex"))


def check(folder: Path, truth: object, *, twice: bool = True) -> None:
    """Open the folder and compare; then again, after a clean stop: what was mended stays so."""
    for _ in range(2 if twice else 1):
        directory, log = reopen(folder)
        assert seen(log) == truth
        directory.close()


def damage(filled: Path, folder: Path, name: str, content: bytes, *, crash: bool) -> Path:
    """A copy in which one index has another content."""
    shutil.copytree(filled, folder)
    (folder / "plain-0" / name).write_bytes(content)
    if crash:
        (folder / ".kafka_cleanshutdown").unlink()
    return folder


@pytest.mark.parametrize("crash", [False, True], ids=["clean", "crashed"])
@pytest.mark.parametrize("which", [0, -1], ids=["first", "last"])
def test_an_index_that_is_cut_inside_an_entry_is_made_anew(
    filled: Path, truth: object, tmp_path: Path, which: int, crash: bool
) -> None:
    path = indexes(filled)[which]
    whole = path.read_bytes()
    for size in range(1, len(whole), 9):
        if size % ENTRY.size:
            copy = damage(filled, tmp_path / str(size), path.name, whole[:size], crash=crash)
            check(copy, truth)
            assert (copy / "plain-0" / path.name).read_bytes() == whole


@pytest.mark.parametrize("crash", [False, True], ids=["clean", "crashed"])
@pytest.mark.parametrize("which", [0, 2, -1], ids=["first", "middle", "last"])
def test_a_flipped_bit_in_any_byte_of_an_entry_but_its_stable_offset_is_noticed(
    filled: Path, truth: object, tmp_path: Path, which: int, crash: bool
) -> None:
    path = indexes(filled)[which]
    whole = path.read_bytes()
    for position in range(0, min(2 * ENTRY.size, len(whole)), 3):
        if position % ENTRY.size < ENTRY.size - 8:
            flipped = bytearray(whole)
            flipped[position] ^= 1 << (position % 8)
            copy = damage(filled, tmp_path / str(position), path.name, bytes(flipped), crash=crash)
            check(copy, truth, twice=False)


@pytest.mark.parametrize("content", [bytes(2 * ENTRY.size), b"\xff" * 3 * ENTRY.size, b"garbage" * 40])
def test_an_index_of_zeros_or_garbage_is_made_anew(filled: Path, truth: object, tmp_path: Path, content: bytes) -> None:
    for number, path in enumerate(indexes(filled)):
        copy = damage(filled, tmp_path / str(number), path.name, content, crash=False)
        check(copy, truth)


def test_a_start_that_ends_while_it_makes_an_index_anew_shows_nothing_aborted_later(
    filled: Path, truth: object, tmp_path: Path
) -> None:
    path = indexes(filled)[0]
    for at in itertools.count(1):
        copy = damage(filled, tmp_path / str(at), path.name, b"garbage" * 40, crash=False)
        fs = FaultyFileSystem(EIO, at=at, for_good=True)
        with contextlib.suppress(LogqueueError):
            open_directory(copy, Environment(fs=fs)).close()
        check(copy, truth, twice=False)
        if not fs.has_failed:
            assert at > 5
            break


def test_the_index_of_another_segment_is_not_believed(filled: Path, truth: object, tmp_path: Path) -> None:
    paths = indexes(filled)
    copy = damage(filled, tmp_path / "copy", paths[2].name, paths[0].read_bytes(), crash=False)
    check(copy, truth)


def test_a_tail_of_zeros_behind_an_index_is_cut(filled: Path, truth: object, tmp_path: Path) -> None:
    path = indexes(filled)[-1]
    copy = damage(filled, tmp_path / "copy", path.name, path.read_bytes() + bytes(3 * ENTRY.size), crash=True)
    check(copy, truth)


def test_all_indexes_come_back_from_the_log_if_nothing_is_known_to_be_durable(
    filled: Path, truth: object, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(filled, copy)
    before = {path.name: path.read_bytes() for path in indexes(copy)}
    for path in [*(copy / "plain-0").glob("*index"), *(copy / "plain-0").glob("*.snapshot")]:
        path.unlink()
    (copy / ".kafka_cleanshutdown").unlink()
    (copy / "recovery-point-offset-checkpoint").unlink()
    check(copy, truth)
    assert {path.name: path.read_bytes() for path in indexes(copy)} == before


def test_indexes_that_a_crash_kept_from_the_disk_come_back_from_the_log(
    filled: Path, truth: object, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(filled, copy)
    for path in indexes(copy)[-2:]:
        path.unlink()
    (copy / ".kafka_cleanshutdown").unlink()
    base = int(indexes(copy)[-1].stem) + 1
    (copy / "recovery-point-offset-checkpoint").write_text(f"0\n1\nplain 0 {base}\n")
    check(copy, truth)


def test_an_index_of_a_log_that_was_cut_names_nothing_behind_the_cut(filled: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(filled, copy)
    last = max((copy / "plain-0").glob("*.log"))
    with last.open("r+b") as file:
        file.truncate(1)
    (copy / ".kafka_cleanshutdown").unlink()
    (copy / "recovery-point-offset-checkpoint").unlink()
    directory, log = reopen(copy)
    end_offset = log.log_end_offset
    assert end_offset == int(last.stem)
    assert all(e.last_offset < end_offset for segment in log.segments for e in segment.txn_index.entries())
    directory.close()
    assert all(e.last_offset < end_offset for path in indexes(copy) for e in parse_entries(path.read_bytes()))
