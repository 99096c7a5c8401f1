"""The frame of the command line: finding commands, exit codes, messages, and how little is imported."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from logqueue_api.cli.commands.dlq import CLASSES
from logqueue_api.cli.dispatch import COMMANDS
from logqueue_api.cli.exits import ExitCode
from logqueue_api.cli.main import main

from logqueue.jobs.errors import ErrorClass

HEAVY = ["aiokafka", "asyncio", "fastapi", "rich", "msgspec", "logging", "http.client", "json", "pydantic", "uvicorn"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "logqueue_api.cli.main", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=60,
        check=False,
    )


def test_help_lists_every_command_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert all(f"{code.value:>3}  {code.meaning}" in shown for code in ExitCode)


def test_no_command_is_a_usage_error_that_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == ExitCode.USAGE
    assert "commands:" in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("logqueue ")


def test_every_class_of_error_can_be_asked_for() -> None:
    assert tuple(ErrorClass) == CLASSES


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: ")
    assert main(["help", name]) == 0


def test_worker_ls_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["worker", "ls", "--help"], ["help", "worker", "ls"]):
        assert main(words) == 0
        shown = capsys.readouterr().out
        assert shown.startswith("usage: logqueue worker ls ") and "--concurrency" not in shown
        assert "only the workers of this group" in shown


def test_the_help_of_a_verb_says_units_and_the_way_back(capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["limit", "set"], "logqueue limit set --queue emails --each tenant --rate 30/m"),
        (["limit", "set"], "A rate is a number of starts per ms, s, m, h or d"),
        (["schedule", "rm"], "comes back with restore"),
        (["schedule", "restore"], "what code declares holds again"),
        (["replay"], "Handlers run for real"),
    ):
        assert main([*words, "--help"]) == 0
        assert told in capsys.readouterr().out


def test_a_run_file_that_was_left_behind_is_said_to_be_no_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["jobs", "ls", "--data-dir", str(tmp_path)]
    assert main(words) == ExitCode.UNREACHABLE
    assert f"no run.json in {tmp_path}" in capsys.readouterr().err
    (tmp_path / "run.json").write_text("{}")
    assert main(words) == ExitCode.UNREACHABLE
    assert f"wrote {tmp_path}/run.json does not run any more" in capsys.readouterr().err


def test_the_readme_tells_every_exit_code() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (line,) = re.findall(r"by their exit code: (.*?);", readme, re.DOTALL)
    assert [int(code) for code in re.findall(r"\b\d+\b", line)] == [code for code in ExitCode if code < 70]


def test_a_mistyped_command_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics"]) == ExitCode.USAGE
    assert "did you mean 'topic'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["topic"], "required: ls|describe|tail"),
        (["topic", "ls", "--no-such"], "unrecognized arguments: --no-such"),
        (
            ["dlq", "ls", "q", "--class", "foo"],
            "invalid choice: 'foo' (choose from 'transient', 'permanent', 'timeout'",
        ),
        (["limit", "set", "--queue", "q"], "which limit?"),
        (["limit", "set", "--queue", "q", "--none", "--running", "1"], "which limit?"),
        (["up", "--kafka-port", "99999"], "'99999' is not a port"),
        (["up", "--workers", "0"], "'0' is no number of processes (try 4, 1..4, 1..auto or auto; at least 1)"),
        (["up", "--drain-timeout", "soon"], "'soon' is not a duration"),
        (["up", "--all"], "--all is for a feed"),
        (["up", "--kafka-port", "7000", "--http-port", "7000"], "are both 7000"),
        (["topic", "ls", "--bootstrap", "localhost"], "'localhost' (--bootstrap) is not HOST:PORT"),
        (["topic", "tail", "t", "--from", "yesterday"], "'yesterday' is no offset and no time"),
        (["topic", "tail", "t", "--partitions", "a"], "'a' is not a list of partitions"),
        (["replay", "t", "a:b", "--group", "g", "--from", "5", "--to", "3"], "--to 3 is before --from 5"),
        (["schedule", "show", "a/b"], "'a/b' is no name of a schedule"),
        (["jobs", "ls", "--api", "localhost:80"], "'localhost:80' (--api) is not a URL"),
    ],
)
def test_bad_input_is_named_without_a_traceback(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == ExitCode.USAGE
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("command", ["dlq replay", "topic ls", "job get", "worker"])
def test_an_unknown_option_leads_to_the_help_of_its_own_command(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.split(), "a", "--no-such", "x"]) == ExitCode.USAGE
    assert f"logqueue {command} --help shows what it takes" in capsys.readouterr().err


def test_errors_are_json_where_json_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topic", "ls", "--json", "--bootstrap", "nowhere"]) == ExitCode.USAGE
    error = json.loads(capsys.readouterr().err)["error"]
    assert error["code"] == "usage"
    assert "'nowhere'" in error["message"]


def test_options_of_every_command_may_stand_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--bootstrap", "nowhere"], ["--bootstrap=nowhere"], ["--json", "--bootstrap", "nowhere"]):
        assert main([*words, "topic", "ls"]) == ExitCode.USAGE
        told = capsys.readouterr().err
        assert "'nowhere' (--bootstrap) is not HOST:PORT" in told
    assert json.loads(told)["error"]["code"] == "usage"


def test_a_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = run("topic", "ls", "--bootstrap", "127.0.0.1:1")
    assert result.returncode == ExitCode.UNREACHABLE
    assert "no log answers at 127.0.0.1:1 (from --bootstrap): Connection refused" in result.stderr
    assert "Traceback" not in result.stderr


def test_up_tells_of_an_outside_cluster_that_is_away_before_anything_is_started(tmp_path: Path) -> None:
    result = run("up", "--data-dir", str(tmp_path / "data"), LOGQUEUE_BOOTSTRAP="127.0.0.1:1")
    assert result.returncode == ExitCode.UNREACHABLE
    assert "no log answers at 127.0.0.1:1: Connection refused" in result.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("folder", ["/proc/none", "file"])
def test_an_api_needs_a_data_folder_that_can_be_written(folder: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("api", "--http-port", "0", "--data-dir", str(tmp_path / folder))
    assert result.returncode == ExitCode.IN_USE
    assert f"the data folder {tmp_path / folder} cannot be used" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_data_folder_has_one_api(tmp_path: Path) -> None:
    with (tmp_path / "view.sqlite.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run("api", "--http-port", "0", "--data-dir", str(tmp_path))
    assert result.returncode == ExitCode.IN_USE
    assert "another API writes its view" in result.stderr


def test_an_api_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = run("jobs", "ls", "--data-dir", str(tmp_path), LOGQUEUE_API="http://127.0.0.1:1")
    assert result.returncode == ExitCode.UNREACHABLE
    assert "no API answers at http://127.0.0.1:1 (from LOGQUEUE_API): Connection refused" in result.stderr


def test_the_frame_imports_nothing_heavy() -> None:
    code = "import sys, logqueue_api.cli.dispatch; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(HEAVY) & set(loaded)


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "logqueue_api.cli.main", "--help"],
        stdout=(pipe := os.pipe())[1],
        stderr=subprocess.PIPE,
    )
    for end in pipe:
        os.close(end)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (0, b"")


def test_ctrl_c_in_a_command_is_130_and_quiet(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "logqueue_api.cli.main", "jobs", "ls", "--api", address],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        connection, _ = silent.accept()
        with connection:
            connection.recv(1)  # it has asked, and waits for an answer now
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (130, b"", b"")
