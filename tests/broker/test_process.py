"""The broker as a process of its own: ready line, signals, exit codes, messages, and kill -9."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from logqueue.broker.command import UsageError, parse
from logqueue.config import InvalidConfig
from tests.broker.wire import Wire, batch, create_topic, fetch_request, produce_request, values_of
from tests.engines.guard import killed_after

TIMEOUT_SECONDS = 30


def command(data_dir: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "logqueue.broker", "--data-dir", str(data_dir), "--kafka-port", "0", *options]


@contextmanager
def running(data_dir: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A broker process and its bootstrap address."""
    process = subprocess.Popen(
        command(data_dir, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    try:
        ready = process.stdout.readline()
        assert "logqueue broker ready on 127.0.0.1:" in ready, process.communicate(timeout=TIMEOUT_SECONDS)
        yield process, ready.rsplit(" ", 1)[1].strip()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate(timeout=TIMEOUT_SECONDS)


def fails(*arguments: str) -> tuple[int, str]:
    """Exit code and complaint of a broker that does not start."""
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly_with_a_fetch_parked(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path) as (process, bootstrap), Wire(bootstrap) as wire:
        create_topic(wire, "t")
        wire.call(9, produce_request("t", batch(b"x"), acks=1))
        wire.send(11, fetch_request("t", 1, max_wait_ms=600_000))
        process.send_signal(number)
        assert process.wait(TIMEOUT_SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert (tmp_path / ".kafka_cleanshutdown").exists()


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    with running(tmp_path) as (process, bootstrap), Wire(bootstrap) as wire:
        create_topic(wire, "t")
        for n in range(20):
            wire.call(9, produce_request("t", batch(b"%d" % n)))
        process.kill()
        process.wait(TIMEOUT_SECONDS)
    with running(tmp_path) as (_, bootstrap), Wire(bootstrap) as wire:
        assert values_of(wire.call(11, fetch_request("t", 0))) == [b"%d" % n for n in range(20)]


def test_a_taken_port_is_named_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, complaint = fails(*command(tmp_path, f"--kafka-port={port}"))
    assert code == 1
    assert f"port {port} on 127.0.0.1 is taken" in complaint
    assert "choose another port" in complaint


def test_a_data_folder_in_use_is_named(tmp_path: Path) -> None:
    with running(tmp_path):
        code, complaint = fails(*command(tmp_path))
    assert code == 1
    assert str(tmp_path) in complaint


def test_a_data_folder_of_a_newer_format_is_left_alone(tmp_path: Path) -> None:
    with running(tmp_path) as (process, _):
        process.terminate()
        process.wait(TIMEOUT_SECONDS)
    meta = tmp_path / "meta.properties"
    meta.write_text(meta.read_text().replace("logqueue.format=1", "logqueue.format=99"))
    code, complaint = fails(*command(tmp_path))
    assert code == 1
    assert "format 99" in complaint


def test_a_data_folder_that_cannot_be_made_is_named() -> None:
    code, complaint = fails(*command(Path("/proc/logqueue-data")))
    assert code == 1
    assert "/proc/logqueue-data" in complaint


def test_a_data_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    code, complaint = fails(*command(file))
    assert code == 1
    assert str(file) in complaint


def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    code, complaint = fails(*command(tmp_path, "--host", "192.0.2.1"))
    assert code == 1
    assert "192.0.2.1 is not an address of this machine" in complaint


def test_listening_on_every_address_warns(tmp_path: Path) -> None:
    listening = command(tmp_path, "--host", "0.0.0.0")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with killed_after(subprocess.Popen(listening, **pipes, text=True)) as process:
        assert process.stdout is not None
        assert "ready" in process.stdout.readline()
        process.terminate()
        _, complaint = process.communicate(timeout=TIMEOUT_SECONDS)
    assert "without authentication" in complaint


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--no-such-option", "1"], "unknown option --no-such-option"),
        (["--data-dir"], "--data-dir wants a value"),
        (["stray"], "unknown option stray"),
        (["--kafka-port", "http"], "Invalid value 'http' for configuration port"),
        (["--kafka-port", "70000"], "must be at most 65535"),
        (["--override", "num.partitions"], "--override wants NAME=VALUE"),
        (["--override", "num.partition=2"], "Unknown configuration num.partition"),
        (["--log-level", "loud"], "--log-level: Invalid value loud"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_explained(arguments: list[str], complaint: str) -> None:
    with pytest.raises((UsageError, InvalidConfig)) as caught:
        parse(arguments)
    assert complaint in str(caught.value)


def test_overrides_reach_the_broker_and_the_topics() -> None:
    options = parse(["--override", "num.partitions=7", "--override=log.retention.ms=5", "--kafka-port=0"])
    assert options.config.num_partitions == 7
    assert options.log_defaults.retention_ms == 5


def test_a_wrong_option_ends_with_the_usage_code(tmp_path: Path) -> None:
    code, complaint = fails(*command(tmp_path, "--bogus", "x"))
    assert code == 2
    assert "usage:" in complaint
