"""What workloads start: with which variables, how long it is waited for, and how its processor time is read."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from benchmarks import stack
from benchmarks.jobs.worker import Worker

CHILD = (sys.executable, "-c")
SHOW = "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('LOGQUEUE_')}))"
BURN = """
import threading, time
def burn():
    began = time.thread_time()
    while time.thread_time() - began < 0.05: pass
thread = threading.Thread(target=burn)
thread.start()
thread.join()
burn()
print("used", time.process_time(), flush=True)
input()
"""


@pytest.fixture
def users_settings(monkeypatch):
    monkeypatch.setenv("LOGQUEUE_BOOTSTRAP", "mine.example:9092")
    monkeypatch.setenv("LOGQUEUE_TOPIC_PREFIX", "mine.")
    monkeypatch.setenv("LOGQUEUE_CACHE_DIR", "/mine")


def test_a_process_has_the_variables_it_is_given_and_none_of_the_users_settings(users_settings):
    process = stack.Process(command=(*CHILD, SHOW), env={"LOGQUEUE_PROCESSING": "at_least_once"})
    try:
        seen = json.loads(process.wait_for("{"))
    finally:
        process.end()
    assert seen.keys() == {"LOGQUEUE_CONFIG", "LOGQUEUE_CACHE_DIR", "LOGQUEUE_PROCESSING"}
    assert seen["LOGQUEUE_PROCESSING"] == "at_least_once"
    assert Path(seen["LOGQUEUE_CACHE_DIR"]).is_dir()
    assert Path(seen["LOGQUEUE_CONFIG"]).read_text() == ""


def test_a_worker_has_none_of_the_users_settings(users_settings, tmp_path):
    file = tmp_path / "seen"
    show = SHOW.replace("print(", f"open({str(file)!r}, 'w').write(") + "; print('ready', flush=True)"
    Worker([*CHILD, show], ready="ready", env={"LOGQUEUE_BOOTSTRAP": "127.0.0.1:1"}).end()
    seen = json.loads(file.read_text())
    assert seen["LOGQUEUE_BOOTSTRAP"] == "127.0.0.1:1"
    assert "LOGQUEUE_TOPIC_PREFIX" not in seen
    assert seen["LOGQUEUE_CACHE_DIR"] != "/mine"


def test_processor_time_is_exact_and_has_that_of_threads_that_ended():
    process = stack.Process(command=(*CHILD, BURN))
    try:
        used = float(process.wait_for("used").split()[1])
        assert used >= 0.1
        assert 0 <= process.cpu_seconds() - used < 0.05
    finally:
        process.end()


def test_the_processor_time_of_nobody_is_an_error():
    process = stack.Process(command=(*CHILD, "pass"))
    process.end()
    with pytest.raises(OSError, match="Invalid argument"):
        process.cpu_seconds()


def test_lines_are_waited_for_one_after_the_other_however_they_come():
    code = "import sys; sys.stdout.write('one\\ntwo\\nthr'); sys.stdout.flush(); print('ee')"
    process = stack.Process(command=(*CHILD, code))
    try:
        assert [process.wait_for("one"), process.wait_for("three")] == ["one", "three"]
        with pytest.raises(RuntimeError, match="ended with 0 before it said 'four'"):
            process.wait_for("four")
    finally:
        process.end()


@pytest.mark.parametrize("code", ["import time; time.sleep(60)", "while True: print('busy', flush=True)"])
def test_a_process_that_never_says_the_words_is_waited_for_no_longer_than_told(code):
    process = stack.Process(command=(*CHILD, code))
    try:
        with pytest.raises(RuntimeError, match=r"did not say 'ready' within 0\.3 s"):
            process.wait_for("ready", within_seconds=0.3)
    finally:
        process.end()


@pytest.mark.timeout(60)
def test_a_logqueue_up_that_ends_is_not_waited_for_nor_an_old_run_believed(tmp_path):
    (tmp_path / "run.json").write_text('{"bootstrap": "127.0.0.1:1", "api": "http://127.0.0.1:1"}')
    with (
        pytest.raises(RuntimeError, match=r"`logqueue up` ended with [1-9]"),
        stack.everything("no.such.module:app", data_dir=tmp_path, ready_seconds=600),
    ):
        raise AssertionError("it is not ready")


def test_settings_of_the_run_hold_for_this_process_meanwhile(users_settings):
    with stack.own_environment():
        assert {name for name in os.environ if name.startswith("LOGQUEUE_")} == {
            "LOGQUEUE_CONFIG",
            "LOGQUEUE_CACHE_DIR",
        }
    assert os.environ["LOGQUEUE_TOPIC_PREFIX"] == "mine."
