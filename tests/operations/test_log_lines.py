"""Log lines in the form that was asked for, with nothing secret in them."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from logqueue.broker.log_format import formatter
from tests.engines.guard import killed_after

SECONDS = 30


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("logqueue.broker", logging.WARNING, "broker.py", 1, message, None, None)
    made.created, made.msecs = 1_700_000_000.123, 123
    vars(made).update(extra)
    return made


def test_logfmt_is_one_line_of_pairs_quoted_where_needed() -> None:
    line = formatter("logfmt").format(record('refusing 1.2.3.4: "full"\nnext', topic="t", partition=3))
    assert line == (
        'ts=2023-11-14T22:13:20.123Z level=warning logger=logqueue.broker msg="refusing 1.2.3.4: \\"full\\"\\nnext" '
        "topic=t partition=3"
    )


def test_json_is_one_object_a_line_with_extra_fields() -> None:
    line = formatter("json").format(record("a\nb", topic="t", path=Path("/x")))
    assert "\n" not in line
    assert json.loads(line) == {
        "ts": "2023-11-14T22:13:20.123Z",
        "level": "warning",
        "logger": "logqueue.broker",
        "msg": "a\nb",
        "topic": "t",
        "path": "/x",
    }


def test_an_exception_is_a_field_of_its_own() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        made = record("failed")
        made.exc_info = sys.exc_info()
    assert json.loads(formatter("json").format(made))["exception"].endswith("ValueError: no")
    assert formatter("logfmt").format(made).count("\n") == 0


@pytest.mark.parametrize("form", ["text", "logfmt", "json"])
def test_a_broker_writes_the_form_it_was_asked_for_and_no_secret(tmp_path: Path, form: str) -> None:
    config = tmp_path / "server.properties"
    config.write_text("ssl.keystore.password=hunter2\nnum.partition=3\nsasl.jaas.config=hunter2\n")
    command = [sys.executable, "-m", "logqueue.broker", "--data-dir", str(tmp_path / "data"), "--kafka-port", "0"]
    command += ["--config", str(config), "--log-level", "debug", "--log-format", form]
    with killed_after(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)) as broker:
        assert broker.stdout is not None
        broker.stdout.readline()
        broker.send_signal(signal.SIGTERM)
        _, logged = broker.communicate(timeout=SECONDS)
    assert broker.returncode == 0
    assert "hunter2" not in logged
    assert "unknown setting num.partition; did you mean num.partitions?" in logged
    lines = logged.splitlines()
    if form == "json":
        assert {"ts", "level", "logger", "msg"} <= set.intersection(*(set(json.loads(line)) for line in lines))
    if form == "logfmt":
        assert all(line.startswith("ts=") and " level=" in line for line in lines)
