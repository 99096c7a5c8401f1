"""`up` over tiny children: run.json, healing, stops in every phase, and what a killed run leaves behind."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from logqueue_api.up import run_file

FAKE = Path(__file__).with_name("fake_children.py")
PATIENCE_SECONDS = 30.0


class Up:
    """A running `up` and what it has printed."""

    def __init__(self, process: subprocess.Popen[str], data_dir: Path) -> None:
        self.process = process
        self.data_dir = data_dir

    def run_json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.data_dir / "run.json").read_text())
        return value

    def until_ready(self) -> dict[str, Any]:
        until(lambda: (self.data_dir / "run.json").exists(), self.process)
        return self.run_json()

    def end(self, number: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, output


def until(holds: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Files and processes have no event to wait on: look again, within a bound."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert process is None or process.poll() is None, process and process.communicate()[0]
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.01)


@contextmanager
def up(data_dir: Path, *options: str) -> Iterator[Up]:
    process = subprocess.Popen(
        [sys.executable, str(FAKE), str(data_dir), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=data_dir.parent,
    )
    try:
        yield Up(process, data_dir)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def app(tmp_path: Path) -> str:
    (tmp_path / "shop.py").write_text(
        "from logqueue import App\napp = App('shop')\n\n"
        "@app.job('email.send', queue='emails')\nasync def send(ctx, *, to: str) -> None: ...\n"
    )
    return "shop.py"


def pids_of(run: dict[str, Any]) -> list[int]:
    pids = run["pids"]
    return [pids["broker"], pids["api"], *pids["workers"]]


def has_ended(watches: list[int]) -> bool:
    ended = all(select.select([watch], [], [], PATIENCE_SECONDS)[0] for watch in watches)
    for watch in watches:
        os.close(watch)
    return ended


def test_run_json_tells_where_everything_is_as_soon_as_it_is_ready(tmp_path: Path, app: str) -> None:
    with up(tmp_path / "data", "--app", app) as running:
        run = running.until_ready()
        assert run["bootstrap"] == "127.0.0.1:7777"
        assert run["api"].startswith("http://127.0.0.1:")
        assert len(run["pids"]["workers"]) == 2
        assert all(Path(f"/proc/{pid}").exists() for pid in pids_of(run))
        assert run_file.read(tmp_path / "data") is not None
        code, output = running.end(signal.SIGTERM)
    assert code == 0, output
    assert not (tmp_path / "data" / "run.json").exists()
    assert "submit email.send --tenant acme to=text --wait" in output
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids_of(run))


def test_workers_do_not_wait_for_a_view_that_is_made_anew_but_run_json_does(tmp_path: Path, app: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "behind").touch()
    with up(data, "--app", app) as running:
        assert running.process.stdout is not None
        for line in running.process.stdout:
            if "the view catches up" in line:
                break
        assert all("logqueue worker ready" in (data / "logs" / f"worker-{n}.log").read_text() for n in (1, 2))
        assert not (data / "run.json").exists()
        (data / "behind").unlink()
        running.until_ready()


def test_a_killed_child_comes_back_and_run_json_stays_true(tmp_path: Path, app: str) -> None:
    with up(tmp_path / "data", "--app", app) as running:
        before = running.until_ready()
        for victim in pids_of(before):
            os.kill(victim, signal.SIGKILL)

        def healed() -> bool:
            present = running.run_json()
            pids = present["pids"]
            return "broker" in pids and len(pids["workers"]) == 2 and not {*pids_of(present)} & {*pids_of(before)}

        until(healed, running.process)
        assert running.run_json()["bootstrap"] == before["bootstrap"]
        code, output = running.end(signal.SIGINT)
    assert code == 0, output
    assert "killed by SIGKILL" in output


def test_a_run_json_that_cannot_be_written_is_told_and_written_when_it_can_be(tmp_path: Path, app: str) -> None:
    data = tmp_path / "data"
    with up(data, "--app", app) as running:
        before = running.until_ready()
        in_the_way = data / f"run.json.{running.process.pid}.tmp"
        in_the_way.mkdir()
        os.kill(before["pids"]["workers"][0], signal.SIGKILL)
        assert running.process.stdout is not None
        while "run.json cannot be written: Is a directory" not in (line := running.process.stdout.readline()):
            assert line, "`up` ended"
        in_the_way.rmdir()
        until(lambda: running.run_json()["pids"]["workers"][0] != before["pids"]["workers"][0], running.process)
        code, output = running.end(signal.SIGTERM)
    assert code == 0, output


def test_a_second_ctrl_c_ends_what_does_not_stop(tmp_path: Path, app: str) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "stubborn-worker-2").touch()
    with up(data_dir, "--app", app) as running:
        run = running.until_ready()
        watches = [os.pidfd_open(pid) for pid in pids_of(run)]
        running.process.send_signal(signal.SIGINT)
        running.process.send_signal(signal.SIGINT)  # the same key press, told twice: not yet a second one
        until(lambda: not (data_dir / "run.json").exists(), running.process)
        assert running.process.stdout is not None
        while "stopping: running jobs" not in (line := running.process.stdout.readline()):
            assert line, "`up` ended"
        time.sleep(0.4)  # two signals within 0.3 s are one
        code, output = running.end(signal.SIGINT)
    assert (code, "stopping at once" in output) == (130, True)
    assert has_ended(watches)


def test_an_outside_cluster_needs_no_broker(tmp_path: Path, app: str) -> None:
    with up(tmp_path / "data", "--app", app, "--bootstrap", "kafka-1:9092,kafka-2:9092") as running:
        run = running.until_ready()
        assert run["bootstrap"] == "kafka-1:9092,kafka-2:9092"
        assert "broker" not in run["pids"]


def test_without_an_app_there_are_no_workers(tmp_path: Path) -> None:
    with up(tmp_path / "data") as running:
        assert running.until_ready()["pids"]["workers"] == []


@pytest.mark.parametrize("phase", ["broker", "api", "worker-1", "worker-2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_in_any_phase_of_the_start_is_clean(
    tmp_path: Path, app: str, phase: str, number: signal.Signals
) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / f"hold-{phase}").touch()
    with up(data_dir, "--app", app) as running:
        until(lambda: "hello" in _text(data_dir / "logs" / f"{phase}.log"), running.process)
        code, output = running.end(number)
    assert code == 130
    assert "Traceback" not in output
    assert not (data_dir / "run.json").exists()
    for log in (data_dir / "logs").iterdir():
        text = log.read_text()
        assert text == "" or text.endswith("bye\n"), f"{log.name} had begun and was not asked to stop"


def test_ctrl_c_while_the_app_is_imported_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import pathlib, time\npathlib.Path('importing').touch()\ntime.sleep(60)\n")
    with up(tmp_path / "data", "--app", "slow.py") as running:
        until((tmp_path / "importing").exists, running.process)
        assert running.end(signal.SIGINT) == (130, "")
    assert not (tmp_path / "data").exists()


def test_a_bad_app_is_told_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("x = 1 / 0\n")
    with up(tmp_path / "data", "--app", "bad.py") as running:
        code, output = running.wait()
    assert code == 7
    assert "ZeroDivisionError: division by zero" in output
    assert "Traceback" not in output
    assert not (tmp_path / "data").exists()


def test_a_data_folder_has_one_up(tmp_path: Path) -> None:
    with up(tmp_path / "data") as first:
        first.until_ready()
        with up(tmp_path / "data") as second:
            code, output = second.wait()
        assert code == 6
        assert (
            f"data folder {tmp_path / 'data'} is in use by another `logqueue up` (process {first.process.pid})"
            in output
        )
        assert (tmp_path / "data" / "run.json").exists(), "the first one's run.json stays"
        assert first.end(signal.SIGTERM)[0] == 0


def test_a_killed_up_leaves_no_child_and_a_run_json_that_is_not_believed(tmp_path: Path, app: str) -> None:
    data_dir = tmp_path / "data"
    with up(data_dir, "--app", app) as running:
        run = running.until_ready()
        watches = [os.pidfd_open(pid) for pid in pids_of(run)]
        running.process.kill()
        running.process.wait()
    assert has_ended(watches), "a child outlived `up`"
    assert (data_dir / "run.json").exists()
    assert run_file.read(data_dir) is None
    with up(data_dir, "--app", app) as again:
        until(
            lambda: (run := run_file.read(data_dir)) is not None and run.supervisor == again.process.pid, again.process
        )
        assert again.run_json()["pids"]["up"] == again.process.pid


def test_a_run_json_of_another_than_who_holds_the_folder_is_not_believed(tmp_path: Path) -> None:
    folder = run_file.DataFolder(tmp_path)
    run = run_file.Run(bootstrap="127.0.0.1:1", api="http://127.0.0.1:2", broker=1, api_process=2)
    folder.publish(dataclasses.replace(run, supervisor=run.supervisor + 1))
    assert run_file.read(tmp_path) is None, "left by a killed run, and not yet removed by this one"
    folder.publish(run)
    assert run_file.read(tmp_path) == run
    folder.release()


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
