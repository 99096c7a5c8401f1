"""Bytes that are sent on their way before their sync: what the disk refuses of them must not be lost to it."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pytest

from logqueue.storage import file_system
from logqueue.storage.errors import StorageError
from logqueue.storage.file_system import RealFileSystem
from tests.storage.test_log import append, new_log

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the call")


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(file_system, "_system_call", lambda: (lambda *_: -1, lambda: number))


def test_the_kernel_is_asked_for_a_range(tmp_path: Path) -> None:
    fs = RealFileSystem()
    fd = fs.open(tmp_path / "file", create=True)
    fs.pwrite(fd, b"x" * 10_000, 0)
    for wait in (False, True):
        fs.write_back(fd, 0, 10_000, wait=wait)
    fs.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        fs.write_back(fd, 0, 10_000, wait=True)


@pytest.mark.parametrize("wait", [True, False])
def test_what_the_disk_refuses_is_raised_and_a_missing_call_is_nothing(
    wait: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        RealFileSystem().write_back(0, 0, 1, wait=wait)
    for number in (errno.ENOSYS, errno.EINVAL):
        refuse(monkeypatch, number)
        RealFileSystem().write_back(0, 0, 1, wait=wait)


def test_a_flush_that_could_not_even_begin_promises_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = new_log(tmp_path)
    append(log)
    refuse(monkeypatch, errno.EIO)
    log.start_flush()
    with pytest.raises(StorageError, match="Input/output error"):
        log.flush()
    assert log.durable_offset == 0


def test_beginning_a_flush_claims_nothing(tmp_path: Path) -> None:
    log = new_log(tmp_path)
    log.start_flush()  # there is not even a file
    append(log)
    log.start_flush()
    assert log.durable_offset == 0
    assert log.flush() == 1
