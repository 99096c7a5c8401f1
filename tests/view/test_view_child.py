"""Whatever becomes of the fold's process, its parent knows why, leaves nothing open and starts it again."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from logqueue_consumers.view.child import ChildLimits, FoldChild, environment_of
from logqueue_consumers.view.reports import Report, encode_report
from structlog.testing import capture_logs

from logqueue.jobs.settings import Settings, load_settings

Lives = Callable[[str], None]
WAIT_SECONDS = 60
HEALTHY = f"""
import os, sys
report_fd = int(sys.argv[sys.argv.index("--report-fd") + 1])
os.write(report_fd, {encode_report(Report(generation="g"))!r})
sys.stdin.read()
"""
SECOND_TIME = f"""
import pathlib
lived = pathlib.Path(__file__).with_suffix(".lived")
if lived.exists():
    exec({HEALTHY!r})
    raise SystemExit
lived.touch()
"""
BAD_REPORT = f"""{SECOND_TIME}
import os, sys
os.write(int(sys.argv[sys.argv.index("--report-fd") + 1]), b"\\xff" * 64)
"""


class Hearing:
    """Takes reports."""

    def __init__(self) -> None:
        self.first = asyncio.Event()

    def take(self, report: Report) -> None:
        self.first.set()

    async def wait(self) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            await self.first.wait()


@pytest.fixture
def lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lives:
    """Has a program run in the place of the fold."""

    def become(program: str) -> None:
        code, python = tmp_path / "fold.py", tmp_path / "python"
        code.write_text(program)
        python.write_text(f'#!/bin/sh\nexec {sys.executable} {code} "$@"\n')
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))

    return become


async def reasons_until_it_reports(path: Path, *, stop_timeout: float = 10.0) -> list[str]:
    """Why folds ended until one reported; then all is closed again."""
    hearing = Hearing()
    limits = ChildLimits(first_pause=0.0, stop_timeout=stop_timeout)
    before = await _open_files()
    with capture_logs() as logs:
        async with FoldChild(Settings(), path / "view.db", on_report=hearing.take, limits=limits) as child:
            await hearing.wait()
            assert child.problem is None
            assert child.pid is not None
        assert child.pid is None
    assert await _open_files() == before
    return [entry["reason"] for entry in logs]


async def _open_files() -> int:
    async with asyncio.timeout(WAIT_SECONDS):  # asyncio's own for children are made with the first of them
        process = await asyncio.create_subprocess_exec("true")
        await process.wait()
    for _ in range(3):  # a transport closes its pipe a turn later
        await asyncio.sleep(0)
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_line_of_any_length_on_standard_error_ends_nothing(
    lives: Lives, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lives(f"import sys\nsys.stderr.write('x' * 300_000 + '\\n')\nsys.stderr.flush()\n{HEALTHY}")
    assert asyncio.run(reasons_until_it_reports(tmp_path)) == []
    assert capsys.readouterr().err.count("x") == 300_000


def test_the_last_line_on_standard_error_says_why_a_fold_ended(lives: Lives, tmp_path: Path) -> None:
    lives(f"{SECOND_TIME}\nraise ValueError('full')")
    assert asyncio.run(reasons_until_it_reports(tmp_path)) == ["ValueError: full"]


def test_a_report_that_cannot_be_read_ends_the_fold_and_another_begins(lives: Lives, tmp_path: Path) -> None:
    lives(f"{BAD_REPORT}\nsys.stdin.read()")
    (reason,) = asyncio.run(reasons_until_it_reports(tmp_path))
    assert reason.startswith("ValueError: a report of 4294967295 bytes")


def test_a_fold_that_does_not_end_and_never_stops_talking_is_killed(
    lives: Lives, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lives(f"{BAD_REPORT}\nwhile True: sys.stderr.write('again\\n' * 1000)")
    (reason,) = asyncio.run(reasons_until_it_reports(tmp_path, stop_timeout=0.1))
    assert reason.startswith("ValueError: a report")
    assert capsys.readouterr().err.startswith("again\n")


def test_a_fold_that_cannot_be_started_is_started_again(
    lives: Lives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lives(HEALTHY)
    start, refusals = asyncio.create_subprocess_exec, [errno.EAGAIN, errno.EMFILE]

    async def refused(program: str, *arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        if program == sys.executable and refusals:
            raise OSError(number := refusals.pop(0), os.strerror(number))
        return await start(program, *arguments, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refused)
    reasons = asyncio.run(reasons_until_it_reports(tmp_path))
    assert [reason.partition("]")[0] for reason in reasons] == [
        f"BlockingIOError: [Errno {errno.EAGAIN}",
        f"OSError: [Errno {errno.EMFILE}",
    ]


def test_the_settings_of_a_child_are_its_parents_and_not_those_of_a_file_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logqueue.toml").write_text('schema_registry_url = "http://another:8081"\ntopic_prefix = "another."\n')
    monkeypatch.chdir(tmp_path)
    settings = Settings(bootstrap="here:9092", topic_prefix="mine.")
    assert load_settings(environ=environment_of(settings)) == settings
