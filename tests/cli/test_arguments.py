"""Values of options: durations, moments, positions, ports; and where the stack is found."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from logqueue_api.cli.arguments import (
    count,
    moment,
    number,
    partition_list,
    port,
    position,
    process_range,
    processes,
    seconds,
    states,
)
from logqueue_api.cli.exits import UsageError
from logqueue_api.cli.stack import DEFAULT_API, DEFAULT_BOOTSTRAP, find_stack, outside_bootstrap
from logqueue_api.up.run_file import DataFolder, Run

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "value"), [("250ms", 0.25), ("10", 10), ("2.5", 2.5), ("1h30m", 5400), ("2d", 172800)]
)
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-08-01T12:00:00Z", NOON),
        ("2026-08-01T14:00:00+02:00", NOON),
        ("2026-08-01T12:00", NOON),
        ("2026-08-01", datetime(2026, 8, 1, tzinfo=UTC)),
        ("15m", datetime(2026, 8, 1, 11, 45, tzinfo=UTC)),
        ("-2h", datetime(2026, 8, 1, 10, tzinfo=UTC)),
    ],
)
def test_moments_are_iso_or_a_duration_ago(text: str, value: datetime) -> None:
    assert moment(text, now=NOON) == value


def test_a_bare_number_is_an_offset_and_what_is_neither_is_told_both() -> None:
    assert position("17") == 17
    with pytest.raises(argparse.ArgumentTypeError, match=r"'x' is no offset and no time \(try 1000, 2026-08"):
        position("x")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (seconds, "-1s"),
        (seconds, ""),
        (moment, "soon"),
        (port, "-1"),
        (port, "65536"),
        (count, "0"),
        (number, "fast"),
        (number, "nan"),
        (partition_list, "1,,2"),
        (states, ""),
        (states, " , "),
    ],
)
def test_what_is_no_value_is_refused(kind: object, text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not"):
        kind(text)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("kind", "text"), [(processes, "x"), (process_range, "x"), (process_range, "0"), (process_range, "1..x")]
)
def test_what_is_no_number_of_processes_is_told_what_would_be(kind: Callable[[str], object], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=rf"'{text}' is no number of processes \(try 4.* auto"):
        kind(text)


def options(data_dir: Path, **given: str) -> argparse.Namespace:
    return argparse.Namespace(bootstrap=given.get("bootstrap"), api=given.get("api"), data_dir=data_dir)


def test_flags_come_before_the_environment_before_run_json_before_localhost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data_dir = tmp_path / "data"
    assert find_stack(options(data_dir), {}).bootstrap == DEFAULT_BOOTSTRAP
    assert find_stack(options(data_dir), {}).api == DEFAULT_API
    folder = DataFolder(data_dir)
    folder.publish(Run(bootstrap="127.0.0.1:1234", api="http://127.0.0.1:5678", broker=1, api_process=2))
    found = find_stack(options(data_dir), {})
    assert (found.bootstrap, found.api) == ("127.0.0.1:1234", "http://127.0.0.1:5678")
    environ = {"LOGQUEUE_BOOTSTRAP": "env:1", "LOGQUEUE_API": "http://env/"}
    found = find_stack(options(data_dir), environ)
    assert (found.bootstrap, found.api) == ("env:1", "http://env")
    found = find_stack(options(data_dir, bootstrap="flag:2", api="http://flag"), environ)
    assert (found.bootstrap, found.api) == ("flag:2", "http://flag")
    folder.release()
    assert find_stack(options(data_dir), {}).bootstrap == DEFAULT_BOOTSTRAP, "a run.json that nobody holds is stale"


@pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps({"bootstrap": "a:1", "api": "b", "pids": 3})])
def test_a_run_json_that_is_none_is_not_believed(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = DataFolder(tmp_path)
    (tmp_path / "run.json").write_text(text)
    assert find_stack(options(tmp_path), {}).bootstrap == DEFAULT_BOOTSTRAP
    folder.release()


def test_the_settings_file_names_the_cluster_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert outside_bootstrap(None, {}) is None
    (tmp_path / "logqueue.toml").write_text('bootstrap = "kafka-1:9092"\n')
    assert outside_bootstrap(None, {}) == "kafka-1:9092"
    assert outside_bootstrap(None, {"LOGQUEUE_BOOTSTRAP": "env:1"}) == "env:1"
    assert find_stack(options(tmp_path), {}).bootstrap_source == "the settings file"


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:8080", "http://", "http://x:abc", "http://x:0", "http://x:65536", "http://[::1", "http://a..b",
        "http://a b", "http://x/\x7f", "http://x/ü", "ftp://x",
    ],
)  # fmt: skip
def test_an_api_that_is_no_url_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="is not a URL"):
        find_stack(options(tmp_path, api=text), {})


@pytest.mark.parametrize("text", ["http://my_api", "https://[::1]:8443/logqueue", "http://münchen.example:80"])
def test_an_api_is_any_url_of_http(tmp_path: Path, text: str) -> None:
    assert find_stack(options(tmp_path, api=text + "/"), {}).api == text


def test_an_outside_cluster_that_is_no_address_is_refused() -> None:
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        outside_bootstrap(None, {"LOGQUEUE_BOOTSTRAP": "kafka"})
