"""The journal: what it takes, what a power cut leaves of it, when it lets a log's own file do, what it never undoes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logqueue.ids import TopicPartition
from logqueue.records.batch import patch
from logqueue.storage import DataFolderError, Environment, LogDirectory, PartitionLog, StorageError
from logqueue.storage.errors import UnknownTopic
from logqueue.storage.file_system import Buffer, RealFileSystem
from logqueue.storage.journal import FIRST_BYTES, MAX_FRAME_BYTES, REST_ROUNDS, Frame
from logqueue.storage.journal_file import FILE_NAMES, MAGIC, Piece, frame_of, put_back, read_journals, read_pieces
from logqueue.storage.names import LOG, segment_file
from tests.crash.disk_states import Disk, write_image
from tests.crash.recording import RecordingFileSystem
from tests.storage.disks import HastyFileSystem
from tests.storage.workload import NOW, batch_of, open_directory, read_all

TOPIC_ID, OTHER_ID = UUID(int=1), UUID(int=2)
PARTITIONS = [TopicPartition("t", index) for index in range(3)]


def at_once(work: Callable[[], None]) -> bool:
    work()
    return True


def new_directory(folder: Path, fs: RealFileSystem | None = None, *, journal_bytes: int = 20_000) -> LogDirectory:
    """A folder whose logs have had their first flush, and whose journal is ready."""
    environment = Environment(fs=fs or HastyFileSystem(), journal_bytes=journal_bytes, in_background=at_once)
    directory = open_directory(folder, environment)
    directory.create_topic("t", partitions=len(PARTITIONS))
    for log in logs_of(directory):
        append(log)
        log.flush()
    for _ in FILE_NAMES:
        directory.journal.take([])
    return directory


def logs_of(directory: LogDirectory) -> list[PartitionLog]:
    return [directory.logs[partition] for partition in PARTITIONS]


def append(log: PartitionLog, *, size: int = 60) -> None:
    log.append(batch_of(log.log_end_offset, size=size), leader_epoch=0, now_ms=NOW)


def commit(directory: LogDirectory, *logs: PartitionLog) -> Frame | None:
    """A round of group commit."""
    frame = directory.journal.take(logs)
    for each in [log for log in logs if frame is None or log not in frame.claims]:
        each.flush()
    if frame is not None:
        frame.flush()
    return frame


def after_power_cut(fs: RecordingFileSystem, folder: Path, target: Path) -> LogDirectory:
    """A start on nothing but what was synced."""
    disk = Disk(folder)
    for entry in fs.journal:
        disk.apply(entry)
    lost = next(state for state in disk.states() if state.kind == "only what was synced")
    return open_directory(write_image(lost.image(), target))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def directory(folder: Path) -> Iterator[LogDirectory]:
    directory = new_directory(folder)
    yield directory
    directory.release()


# The file

pieces = st.builds(
    Piece,
    folder=st.binary(min_size=1, max_size=20),
    topic_id=st.uuids(),
    base_offset=st.integers(0, 2**62),
    position=st.integers(0, 2**40),
    data=st.binary(min_size=1, max_size=200),
)


@settings(deadline=None)
@given(st.lists(st.lists(pieces, max_size=4), max_size=5), st.binary(max_size=100), st.data())
def test_whole_frames_are_read_whatever_is_behind_them(
    frames: list[list[Piece]], rest: bytes, data: st.DataObject
) -> None:
    encoded = [frame_of(7, each) for each in frames]
    content = MAGIC + b"".join(encoded)
    assert list(read_pieces(content + rest)) == [*chain(*frames)]
    assert list(read_pieces(content + frame_of(6, frames[0] if frames else []))) == [*chain(*frames)]
    cut = data.draw(st.integers(len(MAGIC), len(content)))
    whole = [each for index, each in enumerate(frames) if len(MAGIC + b"".join(encoded[: index + 1])) <= cut]
    assert list(read_pieces(content[:cut].ljust(len(content), b"\0"))) == [*chain(*whole)]


def test_a_frame_with_a_wrong_byte_ends_the_journal() -> None:
    first, second = (frame_of(7, [Piece(b"t-0", TOPIC_ID, 0, place, b"data")]) for place in (0, 4))
    for place in range(len(second)):
        damaged = bytearray(second)
        damaged[place] ^= 1
        assert [piece.position for piece in read_pieces(MAGIC + first + damaged)] == [0]


@pytest.mark.parametrize("size", range(len(MAGIC)))
def test_a_journal_that_was_being_made_is_empty(size: int) -> None:
    assert list(read_pieces(MAGIC[:size].ljust(100, b"\0"))) == []


def test_a_journal_of_a_newer_version_is_not_thrown_away(folder: Path) -> None:
    open_directory(folder).release()
    path = folder / FILE_NAMES[1]
    path.write_bytes(MAGIC[:-1] + b"\x02" + bytes(100))
    with pytest.raises(DataFolderError, match=f"{path} is not a journal of this version: it was written by a newer"):
        open_directory(folder)
    assert path.exists()


# Back into the segments


def write_back(folder: Path, before: bytes, *pieces: Piece, recovery_point: int | None = 0) -> bytes:
    """What the segment with base offset 0 holds afterwards."""
    path = folder / segment_file(0, LOG)
    path.write_bytes(before)
    put_back(RealFileSystem(), folder, pieces, topic_id=TOPIC_ID, recovery_point=recovery_point)
    return path.read_bytes()


def piece(position: int, data: bytes, *, topic_id: UUID = TOPIC_ID, base_offset: int = 0) -> Piece:
    return Piece(b"t-0", topic_id, base_offset, position, data)


def stored(offset: int, number: int = 0) -> bytes:
    """A batch as a log holds it."""
    batch = batch_of(number)
    patch(batch, 0, offset, 0)
    return bytes(batch)


BEFORE, BATCH, OTHER = stored(4), stored(5), stored(5, number=1)


@pytest.mark.parametrize("there", [b"", bytes(3), bytes(200), BATCH[:9], BATCH[:8] + bytes(300), BATCH])
@pytest.mark.parametrize("recovery_point", [None, 0, 5])
def test_what_a_segment_has_lost_is_written_again(folder: Path, there: bytes, recovery_point: int | None) -> None:
    content = write_back(folder, BEFORE + there, piece(len(BEFORE), BATCH), recovery_point=recovery_point)
    assert content.startswith(BEFORE + BATCH)


def test_bytes_of_another_topic_of_that_name_are_not(folder: Path) -> None:
    assert write_back(folder, b"", piece(0, BATCH, topic_id=OTHER_ID)) == b""


def test_what_lies_below_the_recovery_point_may_have_been_compacted(folder: Path) -> None:
    assert write_back(folder, b"compacted", piece(0, BATCH), recovery_point=6) == b"compacted"


@pytest.mark.parametrize(
    ("there", "position"),
    [
        (BEFORE + OTHER, len(BEFORE)),  # another batch is there
        (stored(4) + stored(7), len(BEFORE) * 2),  # a compacted segment ends where the batch had been
        (BEFORE, len(BEFORE) + 1),
        (BEFORE, len(BEFORE) - 1),
    ],
)
def test_without_a_recovery_point_only_what_goes_on_there_is_written(folder: Path, there: bytes, position: int) -> None:
    assert write_back(folder, there, piece(position, BATCH), recovery_point=None) == there


def test_without_a_recovery_point_a_torn_piece_is_completed(folder: Path) -> None:
    both = BATCH + stored(6)
    torn = BEFORE + BATCH + both[len(BATCH) :][:70]
    pieces = [piece(len(BEFORE), both), piece(len(BEFORE + both), stored(7))]
    assert write_back(folder, torn, *pieces, recovery_point=None) == BEFORE + both + stored(7)


def test_nothing_is_written_behind_a_gap(folder: Path) -> None:
    assert write_back(folder, b"cut", piece(4, BATCH), piece(3, BATCH)) == b"cut"


def test_a_segment_that_retention_has_removed_does_not_come_back(folder: Path) -> None:
    write_back(folder, b"", piece(0, BATCH, base_offset=9))
    assert not (folder / segment_file(9, LOG)).exists()


def test_the_order_is_that_of_the_log_whichever_file_has_the_older_half(folder: Path) -> None:
    for name, position in zip(FILE_NAMES, (4, 0), strict=True):
        (folder / name).write_bytes(MAGIC + frame_of(1, [piece(position, b"data")]))
    assert [each.position for each in read_journals(RealFileSystem(), folder)["t-0"]] == [0, 4]


# What is taken


def test_many_logs_are_durable_with_one_sync(folder: Path) -> None:
    fs = RecordingFileSystem()
    directory = new_directory(folder, fs)
    for log in logs_of(directory):
        append(log)
        append(log)
    before = len(fs.journal)
    frame = commit(directory, *logs_of(directory))
    assert frame is not None
    assert [entry[1].name for entry in fs.journal[before:] if entry[0] == "sync"] == [FILE_NAMES[0]]
    assert [log.durable_offset for log in logs_of(directory)] == [3, 3, 3]
    recovered = after_power_cut(fs, folder, folder.with_name("cut"))
    assert [len(read_all(log)) for log in logs_of(recovered)] == [3, 3, 3]
    recovered.close()
    directory.close()


def test_rounds_go_on_over_both_files_again_and_again(folder: Path) -> None:
    fs = RecordingFileSystem()
    directory = new_directory(folder, fs, journal_bytes=2_000)
    log, frames = logs_of(directory)[0], 0
    for number in range(100):
        append(log)
        frames += commit(directory, log) is not None
        assert log.durable_offset == log.log_end_offset
        if number % 10 == 0:
            recovered = after_power_cut(fs, folder, folder.with_name("cut"))
            assert read_all(logs_of(recovered)[0]) == read_all(log)
            recovered.release()
    assert frames > 80, "but for those whose file was synced to free the journal"
    directory.close()


def test_the_first_batches_of_a_segment_are_synced_in_its_file(directory: LogDirectory) -> None:
    log = logs_of(directory)[0]
    log.roll(NOW)
    append(log)
    assert directory.journal.take([log]) is None
    log.flush()
    append(log)
    assert commit(directory, log) is not None


def test_a_large_append_is_synced_in_its_file_beside_the_others(directory: LogDirectory) -> None:
    small, large, _ = logs_of(directory)
    append(small)
    append(large, size=MAX_FRAME_BYTES)
    frame = commit(directory, small, large)
    assert frame is not None
    assert list(frame.claims) == [small]
    assert (small.durable_offset, large.durable_offset) == (2, 2)


def test_a_log_that_is_being_synced_is_left_to_that(directory: LogDirectory) -> None:
    log = logs_of(directory)[0]
    append(log)
    claim = log.claim(10_000)
    assert claim is not None
    assert directory.journal.take([log]) is None
    claim.end(is_durable=False)
    assert commit(directory, log) is not None


def test_a_log_with_nothing_new_is_not_spoken_of(directory: LogDirectory) -> None:
    assert directory.journal.take(logs_of(directory)) is None


def test_a_round_that_finds_no_room_is_flushed_without(folder: Path) -> None:
    background: list[Callable[[], None]] = []

    def later(work: Callable[[], None]) -> bool:
        background.append(work)
        return True

    environment = Environment(fs=HastyFileSystem(), journal_bytes=1_000, in_background=later)
    directory = open_directory(folder, environment)
    directory.create_topic("t", partitions=len(PARTITIONS))
    log = logs_of(directory)[0]
    append(log)
    commit(directory, log)  # its first
    taken = []
    for _ in range(30):
        append(log)
        taken.append(commit(directory, log) is not None)
        assert log.durable_offset == log.log_end_offset
        if len(taken) in (5, 20):
            background.pop()()
    assert len(background) == 1, "no more than one file is worked on at a time"
    assert taken[:5] == [False] * 5
    assert any(taken[5:20])
    assert not taken[19]
    directory.release()


# What goes wrong


class Refusing(HastyFileSystem):
    """A disk that refuses what is done to a journal."""

    def __init__(self) -> None:
        self.number = 0
        self.is_full = False
        self.journals: set[int] = set()

    def open(self, path: Path, *, create: bool = False) -> int:
        fd = super().open(path, create=create)
        self.journals.discard(fd)
        if path.name in FILE_NAMES:
            self.journals.add(fd)
        return fd

    def pwrite(self, fd: int, data: Buffer, position: int, /) -> int:  # type: ignore[override]
        if self.is_full and fd in self.journals and position + len(data) > self.size(fd):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.pwrite(fd, data, position)

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self._refuse(fd)

    def fsync(self, fd: int) -> None:  # type: ignore[override]
        self._refuse(fd)

    def _refuse(self, fd: int) -> None:
        if self.number and fd in self.journals:
            raise OSError(self.number, os.strerror(self.number))


def test_a_disk_that_fails_ends_writing(folder: Path) -> None:
    fs = Refusing()
    directory = new_directory(folder, fs)
    log = logs_of(directory)[0]
    append(log)
    fs.number = errno.EIO
    with pytest.raises(StorageError, match=FILE_NAMES[0]):
        commit(directory, log)
    assert log.durable_offset == 1
    with pytest.raises(StorageError):
        log.flush()
    directory.release()


def test_a_disk_without_room_for_it_is_written_to_without(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    fs = Refusing()
    directory = new_directory(folder, fs)
    log = logs_of(directory)[0]
    append(log)
    fs.number = errno.ENOSPC
    commit(directory, log)
    assert log.durable_offset == 2
    assert "is not used any more" in caplog.text
    assert not directory.journal.is_ready
    directory.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_deleted_topic_takes_nobody_along_where_there_is_no_room(folder: Path, tmp_path: Path, number: int) -> None:
    fs = RecordingFileSystem()
    directory = new_directory(folder, fs)
    for log in logs_of(directory):
        append(log)
    frame = directory.journal.take(logs_of(directory))
    assert frame is not None
    fs.pwrite = refusing(number)  # type: ignore[method-assign]
    gone = logs_of(directory)[0]
    gone.flush = deleted  # type: ignore[method-assign]
    frame.flush()
    assert [log.durable_offset for log in logs_of(directory)] == [1, 2, 2]
    directory.release()


def refusing(number: int) -> Callable[..., int]:
    def pwrite(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return pwrite


def deleted() -> int:
    raise UnknownTopic("deleted meanwhile")


def test_a_journal_that_cannot_be_made_is_tried_again_now_and_then(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fs = Refusing()
    fs.number = errno.ENOSPC
    directory = new_directory(folder, fs)
    fs.number = 0
    log = logs_of(directory)[0]
    rounds = 0
    while not directory.journal.is_ready:
        append(log)
        commit(directory, log)
        rounds += 1
    assert rounds == REST_ROUNDS
    assert caplog.text.count("is not free yet") == 1
    directory.close()


def test_a_failed_sync_of_its_name_ends_writing(folder: Path) -> None:
    fs = Refusing()
    fs.number = errno.EIO
    directory = new_directory(folder, fs)
    assert directory.failure is not None
    directory.release()


def test_a_file_that_cannot_grow_is_used_as_it_is(folder: Path) -> None:
    fs = Refusing()
    directory = new_directory(folder, fs, journal_bytes=4 * FIRST_BYTES)
    log = logs_of(directory)[0]
    fs.is_full = True
    frames = 0
    for _ in range(200):
        append(log, size=10_000)
        frames += commit(directory, log) is not None
    assert frames > 180
    assert not directory.failure
    assert all((folder / name).stat().st_size == FIRST_BYTES for name in FILE_NAMES)
    directory.close()


def test_an_error_that_a_claim_meets_is_left_to_the_flush(directory: LogDirectory) -> None:
    first, second, _ = logs_of(directory)
    append(first)
    append(second)

    def read_at(*_: object) -> bytes:
        raise StorageError("an evicted file could not be synced")

    segment = first.segments[-1]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(segment), "read_at", read_at)
        assert directory.journal.take([first, second]) is None
    assert commit(directory, first, second) is not None, "no lock was kept"


def test_a_bug_while_it_is_freed_ends_the_journal_alone(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = new_directory(folder, journal_bytes=1_000)
    log = logs_of(directory)[0]
    monkeypatch.setattr(log, "sync", lambda: 1 // 0)
    for _ in range(30):
        append(log)
        commit(directory, log)
        assert log.durable_offset == log.log_end_offset
    assert caplog.text.count("failed in an unforeseen way") == 1
    directory.release()


def test_one_file_speaks_of_a_share_of_the_open_files(folder: Path) -> None:
    environment = Environment(fs=HastyFileSystem(), max_open_files=40, in_background=at_once)
    directory = open_directory(folder, environment)
    directory.create_topic("t", partitions=30)
    logs = list(directory.logs.values())
    for each in logs:
        append(each)
    commit(directory, *logs)
    commit(directory)
    spoken_of = []
    for _ in range(3):
        for each in logs:
            append(each)
        frame = commit(directory, *logs)
        spoken_of.append(len(frame.claims) if frame is not None else 0)
        assert all(each.durable_offset == each.log_end_offset for each in logs)
    assert spoken_of == [10, 10, 10]
    directory.close()


def test_without_a_thread_there_is_no_journal(folder: Path) -> None:
    directory = open_directory(folder, Environment(fs=HastyFileSystem(), in_background=lambda _: False))
    assert directory.journal.take([]) is None
    assert not directory.journal.is_ready
    directory.close()


# Beside everything else


def test_a_clean_stop_and_a_start_leave_none(folder: Path, tmp_path: Path) -> None:
    fs = RecordingFileSystem()
    directory = new_directory(folder, fs)
    append(logs_of(directory)[0])
    commit(directory, *logs_of(directory))
    assert (folder / FILE_NAMES[0]).exists()
    recovered = after_power_cut(fs, folder, tmp_path / "cut")
    assert not any((tmp_path / "cut" / name).exists() for name in FILE_NAMES)
    recovered.close()
    directory.close()
    assert not any((folder / name).exists() for name in FILE_NAMES)


def test_a_journal_that_a_start_has_read_cannot_come_back(folder: Path, tmp_path: Path) -> None:
    fs = RecordingFileSystem()
    directory = new_directory(folder, fs)
    append(logs_of(directory)[0])
    commit(directory, *logs_of(directory))
    directory.release()
    fs.close_all()
    started = open_directory(folder, Environment(fs=fs))
    disk = Disk(folder)
    for entry in fs.journal:
        disk.apply(entry)
    for state in disk.states():
        assert not any(path.name in FILE_NAMES for path in state.image()), state
    started.release()


def test_a_topic_of_the_same_name_gets_nothing_of_the_one_before(folder: Path, tmp_path: Path) -> None:
    fs = RecordingFileSystem()
    directory = new_directory(folder, fs)
    for _ in range(3):
        append(logs_of(directory)[0])
    commit(directory, *logs_of(directory))
    directory.delete_topic("t")
    directory.create_topic("t", partitions=1)
    log = directory.logs[PARTITIONS[0]]
    log.append(batch_of(77), leader_epoch=0, now_ms=NOW)
    log.flush()
    recovered = after_power_cut(fs, folder, tmp_path / "cut")
    assert read_all(recovered.logs[PARTITIONS[0]]) == read_all(log)
    recovered.release()
    directory.close()


def test_a_topic_that_was_deleted_does_not_keep_a_file_from_being_free(folder: Path) -> None:
    directory = new_directory(folder, journal_bytes=1_000)
    gone, *_ = logs_of(directory)
    append(gone)
    commit(directory, gone)
    directory.delete_topic("t")
    directory.create_topic("u", partitions=1)
    log = directory.logs[TopicPartition("u", 0)]
    for _ in range(50):
        append(log)
        commit(directory, log)
    assert commit(directory, log) is None, "nothing new"
    append(log)
    assert commit(directory, log) is not None
    directory.close()


def test_a_segment_goes_only_when_its_own_file_is_synced(directory: LogDirectory) -> None:
    log = logs_of(directory)[0]
    append(log)
    commit(directory, log)
    log.roll(NOW)
    assert log.is_flush_due
    assert log.retire_before(log.log_end_offset) == 0
    log.sync()
    assert log.retire_before(log.log_end_offset) == 1


def test_the_recovery_point_stays_before_what_only_the_journal_has(directory: LogDirectory) -> None:
    log = logs_of(directory)[0]
    append(log)
    commit(directory, log)
    assert log.advance_recovery_point(force=True) == 1
    log.sync()
    assert log.advance_recovery_point(force=True) == 2
