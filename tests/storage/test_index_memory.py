"""Indexes that grow: what is in the file leaves the memory, and lookups find it all the same."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from logqueue.storage.file_system import RealFileSystem
from logqueue.storage.index_file import KEPT_BYTES, IndexCache
from logqueue.storage.offset_index import ENTRY, OffsetIndex
from tests.storage.disks import HastyFileSystem

BASE = 1_000
MANY = 20 * KEPT_BYTES // ENTRY.size


def index_in(folder: Path, fs: RealFileSystem | None = None) -> OffsetIndex:
    cache = IndexCache(fs or HastyFileSystem())
    return OffsetIndex(cache, folder / "0.index", base_offset=BASE, max_bytes=10 << 20)


def fill(index: OffsetIndex, start: int, stop: int) -> None:
    for number in range(start, stop):
        index.append(BASE + 10 * number, 100 * number)


@pytest.fixture
def index(tmp_path: Path) -> OffsetIndex:
    return index_in(tmp_path)


def test_a_growing_index_keeps_its_newest_entries_in_memory_and_no_others(index: OffsetIndex) -> None:
    for start in range(0, MANY, 128):
        fill(index, start, start + 128)
        index.write_out()
    assert index.held_bytes <= 3 * KEPT_BYTES + 128 * ENTRY.size
    assert index.size == MANY * ENTRY.size
    assert index.path.stat().st_size == index.size


def test_what_no_file_has_stays_in_memory(index: OffsetIndex) -> None:
    fill(index, 0, MANY)
    index.shed()
    assert index.held_bytes == MANY * ENTRY.size


def test_an_index_that_is_resumed_lets_go_of_what_it_was_given(index: OffsetIndex, tmp_path: Path) -> None:
    fill(index, 0, MANY)
    index.write_out()
    again = index_in(tmp_path)
    again.resume(index.path.read_bytes())
    again.shed()
    assert again.held_bytes <= 2 * KEPT_BYTES
    assert again.floor(BASE + 10 * 7 + 3) == (BASE + 70, 700)
    fill(again, MANY, MANY + 1)
    again.write_out()
    again.seal(again.size)
    assert [again.floor(BASE + 10 * number)[1] for number in (0, 1, MANY)] == [0, 100, 100 * MANY]


def test_a_lookup_after_the_file_has_gone_finds_less_and_does_not_fail(index: OffsetIndex) -> None:
    fill(index, 0, MANY)
    index.write_out()
    index.shed()
    index.path.unlink()
    index.forget()
    assert index.floor(BASE + 50) == (BASE, 0)
    assert index.floor(BASE + 10 * MANY) == (BASE + 10 * (MANY - 1), 100 * (MANY - 1))


@given(
    st.lists(st.integers(0, 900) | st.sampled_from(["write", "shed", "forget"]), max_size=12),
    st.lists(st.integers(-5, 12_000), max_size=20),
)
def test_lookups_are_those_of_a_plain_list(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int | str], wanted: list[int]
) -> None:
    index, offsets = index_in(tmp_path_factory.mktemp("index")), list[int]()
    for step in steps:
        match step:
            case "write":
                index.write_out()
            case "shed":
                index.shed()
            case "forget":
                index.forget()
            case int():
                fill(index, len(offsets), len(offsets) + step)
                offsets.extend(range(10 * len(offsets), 10 * (len(offsets) + step), 10))
    for relative in wanted:
        at = bisect_right(offsets, relative)
        assert index.floor(BASE + relative) == ((BASE, 0) if not at else (BASE + offsets[at - 1], 10 * offsets[at - 1]))
    assert index.last() == ((BASE + offsets[-1], 10 * offsets[-1]) if offsets else None)
    index.write_out()
    data = index.path.read_bytes()
    assert [offset for offset, _ in ENTRY.iter_unpack(data)] == offsets
