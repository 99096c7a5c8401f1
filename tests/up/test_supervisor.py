"""The supervisor with tiny children: order, readiness, restarts with back-off, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from logqueue_api.up.backoff import Backoff, GiveUp, Restart, RestartLimits
from logqueue_api.up.child import ChildSpec, ChildState, Notice
from logqueue_api.up.child_log import ChildLog
from logqueue_api.up.supervisor import ChildFailed, Supervisor

from logqueue.clock import ManualClock

READY = re.compile(r"ready on (\d+)")
STEADY = "import signal; print('ready on 7', flush=True); signal.pause()"
STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready on 1', flush=True)\n"
    "while True: signal.pause()"
)


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def spec(name: str, code: str, **more: object) -> ChildSpec:
    settings: dict[str, object] = {"ready_line": READY, "environment": os.environ, "stop_seconds": 5.0} | more
    return ChildSpec(name=name, command=lambda ready: python(code), **settings)  # type: ignore[arg-type]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


class Waits:
    """Stands for asyncio.sleep: remembers how long it was asked to wait, and moves the clock instead of waiting."""

    def __init__(self, clock: ManualClock) -> None:
        self.seconds: list[float] = []
        self._clock = clock

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self._clock.advance(seconds)


class Changes:
    """Wakes a test whenever the supervisor says that something changed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def __call__(self, *_: object) -> None:
        self._event.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                self._event.clear()
                await self._event.wait()


def test_delays_grow_up_to_the_cap_and_quick_ends_give_up() -> None:
    backoff = Backoff(RestartLimits(first_seconds=1, factor=3, cap_seconds=5, quick_ends=5))
    decisions = [backoff.ended(ready_at=None, now=float(i)) for i in range(5)]
    assert decisions == [Restart(1), Restart(3), Restart(5), Restart(5), GiveUp(5)]


def test_a_child_that_was_stable_starts_its_count_again() -> None:
    backoff = Backoff(RestartLimits(first_seconds=1, factor=2, stable_seconds=10, quick_ends=3))
    for start in range(0, 1000, 20):
        assert backoff.ended(ready_at=float(start), now=start + 10.0) == Restart(1)
    assert backoff.ended(ready_at=2000.0, now=2009.9) == Restart(2)
    assert backoff.ended(ready_at=2010.0, now=2010.1) == GiveUp(3)


def test_a_child_that_gets_as_far_as_its_work_is_never_given_up() -> None:
    backoff = Backoff(RestartLimits(first_seconds=1, factor=2, cap_seconds=5, quick_ends=3))
    decisions = [backoff.ended(ready_at=float(i), now=i + 0.5, is_able=True) for i in range(2_000)]
    assert decisions[:5] == [Restart(1), Restart(2), Restart(4), Restart(4), Restart(4)]
    assert decisions[-1] == Restart(4)


async def _start_and_stop(tmp_path: Path) -> None:
    changes = Changes()
    async with Supervisor(log_dir=tmp_path, on_change=changes) as supervisor:
        child = await supervisor.start(spec("steady", STEADY))
        assert child.state is ChildState.READY
        assert child.ready is not None and child.ready[1] == "7"
        pid = child.pid
        assert pid is not None and is_alive(pid)
        await supervisor.stop()
        assert child.state is ChildState.ENDED
        assert not is_alive(pid)


def test_a_child_is_ready_when_its_line_appears_and_stops_on_request(tmp_path: Path) -> None:
    asyncio.run(_start_and_stop(tmp_path))


def test_a_killed_child_is_started_again_with_what_it_had_said_when_ready(tmp_path: Path) -> None:
    told: list[str | None] = []
    notices: list[Notice] = []

    def command(ready: re.Match[str] | None) -> list[str]:
        told.append(ready and ready[1])
        return python(STEADY)

    async def scenario() -> None:
        changes = Changes()
        clock = ManualClock()
        waits = Waits(clock)
        async with Supervisor(
            log_dir=tmp_path, clock=clock, sleep=waits, on_change=changes, on_notice=notices.append
        ) as supervisor:
            child = await supervisor.start(
                ChildSpec(name="broker", command=command, environment=os.environ, ready_line=READY)
            )
            first = child.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await changes.until(lambda: child.state is ChildState.READY and child.pid not in (None, first))
            assert told == [None, "7"]
            assert waits.seconds == [0.2]
            assert "killed by SIGKILL" in notices[0].text

    asyncio.run(scenario())


def test_a_child_that_ends_at_once_again_and_again_ends_the_supervisor_with_its_last_output(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        waits = Waits(clock)
        limits = RestartLimits(first_seconds=1, factor=2, cap_seconds=60, quick_ends=4)
        async with Supervisor(log_dir=tmp_path, clock=clock, sleep=waits, limits=limits) as supervisor:
            with pytest.raises(ChildFailed) as caught:
                await supervisor.start(spec("worker-1", "print('no such table: x'); raise SystemExit(3)"))
            assert waits.seconds == [1, 2, 4]
        text = str(caught.value)
        assert text.startswith("worker-1 ended 4 times in a row as soon as it had started: exit code 3.")
        assert "| no such table: x" in text
        assert str(tmp_path / "worker-1.log") in text

    asyncio.run(scenario())


def test_an_exit_code_that_no_restart_mends_fails_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Supervisor(log_dir=tmp_path) as supervisor:
            with pytest.raises(ChildFailed, match="could not start: exit code 6") as caught:
                await supervisor.start(spec("broker", "raise SystemExit(6)", final_codes=frozenset({6})))
            assert caught.value.exit_code == 6
            assert supervisor.children["broker"].restarts == 0

    asyncio.run(scenario())


def test_a_child_that_never_gets_ready_is_killed_and_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Supervisor(log_dir=tmp_path) as supervisor:
            with pytest.raises(ChildFailed, match=r"api could not start: not ready in time \(0\.3 s\)"):
                await supervisor.start(spec("api", "import signal; signal.pause()", ready_seconds=0.3))

    asyncio.run(scenario())


def test_a_command_that_does_not_exist_is_a_clear_failure(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with Supervisor(log_dir=tmp_path, clock=clock, sleep=Waits(clock)) as supervisor:
            bad = ChildSpec(name="broker", command=lambda ready: ["/nonexistent/x"], environment={})
            with pytest.raises(ChildFailed, match="cannot be started: No such file or directory"):
                await supervisor.start(bad)
                await supervisor.failed()

    asyncio.run(scenario())


def test_children_stop_in_the_opposite_order_of_their_start(tmp_path: Path) -> None:
    ended: list[str] = []
    code = (
        "import signal, sys\n"
        "def stop(*_): print('bye', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\nprint('ready on 1', flush=True)\nwhile True: signal.pause()"
    )

    async def scenario() -> None:
        on_line = lambda name, line: ended.append(name) if line == "bye" else None  # noqa: E731
        async with Supervisor(log_dir=tmp_path, on_line=on_line) as supervisor:
            for name in ("broker", "api", "worker-1", "worker-2"):
                await supervisor.start(spec(name, code))
            await supervisor.stop(["worker-1", "worker-2"], ["api"], ["broker"])

    asyncio.run(scenario())
    assert sorted(ended[:2]) == ["worker-1", "worker-2"]
    assert ended[2:] == ["api", "broker"]


def test_a_child_that_ignores_the_request_is_killed_after_its_bound(tmp_path: Path) -> None:
    notices: list[Notice] = []

    async def scenario() -> None:
        async with Supervisor(log_dir=tmp_path, on_notice=notices.append) as supervisor:
            child = await supervisor.start(spec("worker-1", STUBBORN, stop_seconds=0.2))
            pid = child.pid
            await supervisor.stop()
            assert pid is not None and not is_alive(pid)

    asyncio.run(scenario())
    assert notices == [Notice("worker-1", "did not stop in 0.2 s and was killed", is_problem=True)]


def test_hurry_ends_a_stop_that_waits(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Supervisor(log_dir=tmp_path) as supervisor:
            child = await supervisor.start(spec("worker-1", STUBBORN, stop_seconds=60))
            stopping = asyncio.create_task(supervisor.stop())
            while child.state is not ChildState.STOPPING:
                await asyncio.sleep(0)
            supervisor.hurry()
            async with asyncio.timeout(10):
                await stopping

    asyncio.run(scenario())


def test_a_stop_during_the_back_off_does_not_wait_for_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        changes = Changes()
        limits = RestartLimits(first_seconds=3600, cap_seconds=3600)
        async with Supervisor(log_dir=tmp_path, limits=limits, on_change=changes) as supervisor:
            child = await supervisor.start(spec("api", STEADY))
            os.kill(child.pid or 0, signal.SIGKILL)
            await changes.until(lambda: child.state is ChildState.BACKING_OFF)
            async with asyncio.timeout(10):
                await supervisor.stop()
            assert child.state is ChildState.ENDED

    asyncio.run(scenario())


def test_a_one_shot_child_that_succeeds_is_not_started_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        changes = Changes()
        async with Supervisor(log_dir=tmp_path, on_change=changes) as supervisor:
            child = supervisor.launch(spec("feed", "print('fed 3')", ready_line=None, is_one_shot=True))
            await changes.until(lambda: child.state is ChildState.ENDED)
            assert child.restarts == 0
            assert list(child.log.last_lines) == ["fed 3"]

    asyncio.run(scenario())


def test_a_one_shot_child_that_fails_is_a_problem_to_show_and_ends_nothing(tmp_path: Path) -> None:
    notices: list[Notice] = []

    async def scenario() -> None:
        changes = Changes()
        clock = ManualClock()
        async with Supervisor(
            log_dir=tmp_path, on_change=changes, clock=clock, sleep=Waits(clock), on_notice=notices.append
        ) as supervisor:
            await supervisor.start(spec("broker", STEADY))
            feed = supervisor.launch(spec("feed", "raise SystemExit(1)", ready_line=None, is_one_shot=True))
            await changes.until(lambda: feed.state is ChildState.FAILED)
            assert supervisor.children["broker"].state is ChildState.READY

    asyncio.run(scenario())
    assert "feed ended 6 times in a row" in notices[-1].text


def test_leaving_the_supervisor_by_an_error_leaves_no_child(tmp_path: Path) -> None:
    pids: list[int] = []

    async def scenario() -> None:
        async with Supervisor(log_dir=tmp_path) as supervisor:
            first, second = await supervisor.start(spec("a", STUBBORN)), await supervisor.start(spec("b", STUBBORN))
            pids.extend(child.pid or 0 for child in (first, second))
            raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        asyncio.run(scenario())
    assert not any(is_alive(pid) for pid in pids)


def test_what_a_child_started_and_left_goes_with_it(tmp_path: Path) -> None:
    code = (
        "import signal, subprocess\n"
        f"p = subprocess.Popen([{sys.executable!r}, '-S', '-c', 'import signal; signal.pause()'])\n"
        "print('ready on', p.pid, flush=True); signal.pause()"
    )

    async def scenario() -> None:
        changes = Changes()
        async with Supervisor(log_dir=tmp_path, on_change=changes) as supervisor:
            child = await supervisor.start(spec("api", code))
            assert child.ready is not None
            left = int(child.ready[1])
            first = child.pid
            os.kill(first or 0, signal.SIGKILL)
            await changes.until(lambda: child.state is ChildState.READY and child.pid not in (None, first))
            assert not is_alive(left)

    asyncio.run(scenario())


SUPERVISOR_PROCESS = """
import asyncio, os, re, sys
from pathlib import Path
from logqueue_api.up.child import ChildSpec
from logqueue_api.up.supervisor import Supervisor

async def main():
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready on 1', flush=True)\\n"
    code += "while True: signal.pause()"
    async with Supervisor(log_dir=Path(sys.argv[1])) as supervisor:
        pids = []
        for name in ("broker", "api", "worker-1"):
            spec = ChildSpec(name=name, command=lambda ready: [sys.executable, "-S", "-c", code],
                             environment=os.environ, ready_line=re.compile("ready on"))
            pids.append((await supervisor.start(spec)).pid)
        print(*pids, flush=True)
        await supervisor.failed()

asyncio.run(main())
"""


def test_kill_9_of_the_supervisor_leaves_no_orphans(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR_PROCESS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 3
    watches = [os.pidfd_open(pid) for pid in pids]
    process.kill()
    process.wait()
    for watch in watches:
        assert select.select([watch], [], [], 10)[0], "a child outlived its supervisor"
        os.close(watch)


def test_a_childs_log_is_rotated_and_bounded(tmp_path: Path) -> None:
    lines: list[str] = []
    log = ChildLog(tmp_path / "x.log", on_line=lines.append, largest_bytes=100)
    for number in range(100):
        log.feed(f"line {number:04}\n".encode())
    log.close()
    assert lines[-1] == "line 0099"
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"x.log", "x.log.1", "x.log.2"}
    assert all(size <= 100 for size in sizes.values())


def test_a_childs_log_whose_folder_goes_is_told_once_and_goes_on_when_it_is_there_again(tmp_path: Path) -> None:
    lines: list[str] = []
    folder = tmp_path / "logs"
    log = ChildLog(folder / "x.log", on_line=lines.append, largest_bytes=20)
    log.feed(b"line 0000\nline 0001\n")
    shutil.rmtree(folder)
    for number in range(10):
        log.feed(f"line {number:04}\n".encode())
    told = [line for line in lines if line.startswith("ERROR")]
    assert told == [f"ERROR the log {folder / 'x.log'} cannot be written: No such file or directory"]
    folder.mkdir()
    log.feed(b"the last\n")
    log.close()
    assert (folder / "x.log").read_text() == "the last\n"
    assert lines[-1] == "the last"


def test_a_line_without_an_end_is_told_in_bounded_pieces(tmp_path: Path) -> None:
    lines: list[str] = []
    log = ChildLog(tmp_path / "x.log", on_line=lines.append)
    log.feed(b"a" * 20_000)
    assert [len(line) for line in lines] == [8192, 8192]
    log.end_line()
    log.close()
    assert sum(map(len, lines)) == 20_000
