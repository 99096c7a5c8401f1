"""submit, job and jobs against an API that answers what the test says: requests, messages, exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from logqueue_api.cli.main import main

from tests.cli.scripted_api import scripted_api

JOB: dict[str, Any] = {
    "id": "j1",
    "type": "sum",
    "tenant": "acme",
    "state": "succeeded",
    "attempt": 1,
    "created_at": "2026-08-01T12:00:00Z",
    "result": {"sum": 3},
    "error": None,
}
RECEIPT = {"id": "j1", "topic": "jobs.sums", "partition": 0, "offset": 7, "position": "jobs.sums-0-7"}


class Api:
    """What was asked, and the answers that are still to be given, in order."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.answers: list[tuple[int, Any]] = []
        self.url = ""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Api]:
    fake = Api()

    def respond(request: BaseHTTPRequestHandler, body: Any) -> tuple[int, Any]:
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        fake.asked.append((request.command, parts.path, query, body))
        return fake.answers.pop(0)

    with scripted_api(respond) as fake.url:
        monkeypatch.setenv("LOGQUEUE_API", fake.url)
        monkeypatch.chdir(tmp_path)
        yield fake


def test_a_log_that_is_named_to_a_command_of_the_api_is_not_ignored(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "sum", "--bootstrap", "127.0.0.1:1"]) == 2
    assert "--bootstrap names a log\n  --api URL says" in capsys.readouterr().err
    assert not api.asked
    api.answers = [(202, RECEIPT)]
    assert main(["submit", "sum", "--bootstrap", "127.0.0.1:1", "--api", api.url]) == 0


def test_words_are_json_where_they_are_json_and_text_elsewhere(api: Api) -> None:
    api.answers = [(202, RECEIPT)]
    words = ["n=3", "flag=true", "to=a@b.c", 'quoted="7"', 'list=[1, "x"]', "empty=", "eq=a=b", "nan=NaN"]
    assert main(["submit", "sum", "--tenant", "acme", *words, "--delay", "1m", "--id", "mine"]) == 0
    assert api.asked[0][3] == {
        "type": "sum",
        "tenant": "acme",
        "id": "mine",
        "delay": "60000ms",
        "args": {
            "n": 3,
            "flag": True,
            "to": "a@b.c",
            "quoted": "7",
            "list": [1, "x"],
            "empty": "",
            "eq": "a=b",
            "nan": "NaN",
        },
    }


def test_arguments_as_one_object_and_words_together(api: Api) -> None:
    api.answers = [(202, RECEIPT)]
    assert main(["submit", "sum", "--args", '{"a": 1}', "b=2"]) == 0
    assert api.asked[0][3]["args"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["novalue"], "'novalue' is not of the form k=v"),
        (["=1"], "'=1' is not of the form k=v"),
        (["a=1", "a=2"], "argument 'a' is given twice"),
        (["--args", "{"], "--args is not JSON"),
        (["--args", "[1]"], "--args is not a JSON object"),
    ],
)
def test_words_that_are_no_arguments_are_named_and_nothing_is_sent(
    api: Api, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "sum", *words]) == 2
    assert message in capsys.readouterr().err
    assert api.asked == []


@pytest.mark.parametrize(("state", "code"), [("succeeded", 0), ("dead", 1), ("cancelled", 1), ("expired", 1)])
def test_the_exit_code_says_how_the_job_ended(
    api: Api, state: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers = [(202, RECEIPT), (200, JOB | {"state": "running"}), (200, JOB | {"state": state})]
    assert main(["submit", "sum", "a=1", "--wait", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["state"] == state
    assert [asked[1] for asked in api.asked] == ["/v1/jobs", "/v1/jobs/j1", "/v1/jobs/j1"]
    assert api.asked[1][2]["min_position"] == "jobs.sums-0-7"


def test_a_wait_that_is_over_is_5_and_says_that_the_job_goes_on(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    api.answers = [(200, JOB | {"state": "running"})]
    assert main(["job", "wait", "j1", "--timeout", "0"]) == 5
    assert "job j1 is running after 0 s" in capsys.readouterr().err


def test_fields_of_a_problem_are_told_once(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    faults = [{"field": "args.a", "detail": "missing"}, {"field": "args.b", "detail": "no"}]
    api.answers = [(400, {"detail": "args.a: missing", "errors": faults})]
    assert main(["submit", "sum"]) == 2
    assert capsys.readouterr().err == "logqueue: args.a: missing\n  args.b: no\n"


def test_a_number_where_text_is_wanted_is_told_how_to_be_text(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    api.answers = [(422, {"detail": "args.to: 1 is not of type 'string'"})]
    assert main(["submit", "email.send", "n=2", "to=1"]) == 2
    assert "'to=\"1\"' sends text" in capsys.readouterr().err


def test_an_api_that_fails_while_a_job_is_waited_for_does_not_read_as_a_failed_job(api: Api) -> None:
    api.answers = [(202, RECEIPT), (500, b"oops")]
    assert main(["submit", "sum", "--wait"]) == 3


def test_help_says_how_long_an_unknown_job_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["job", "wait", "--help"]) == 0
    assert "said after 20 s" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("status", "document", "code", "message"),
    [
        (404, {"detail": "there is no job 'x'"}, 4, "there is no job 'x'"),
        (410, {"title": "Gone"}, 4, "Gone"),
        (503, {"detail": "the log is away"}, 3, "the log is away"),
        (500, b"oops", 3, "answered 500"),
        (418, [], 2, "answered 418"),
        (499, {}, 2, "answered 499"),
        (599, {}, 3, "answered 599"),
    ],
)
def test_statuses_become_exit_codes(
    api: Api, status: int, document: object, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers = [(status, document)]
    assert main(["job", "get", "x"]) == code
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


def test_an_id_may_hold_anything(api: Api) -> None:
    api.answers = [(200, JOB)]
    assert main(["job", "get", "a/b c?d"]) == 0
    assert api.asked[0][1] == "/v1/jobs/a%2Fb%20c%3Fd"


def test_a_list_follows_its_cursor_up_to_the_limit(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    page = [JOB | {"id": f"j{n}"} for n in range(100)]
    api.answers = [(200, {"items": page, "next_cursor": "c1"}), (200, {"items": page[:20], "next_cursor": "c2"})]
    words = ["--state", "dead", "--tenant", "acme", "--since", "2026-08-01", "-n", "120", "--json"]
    assert main(["jobs", "ls", *words]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (len(shown["items"]), shown["next_cursor"]) == (120, "c2")
    assert api.asked[0][2] == {"state": "dead", "tenant": "acme", "since": "2026-08-01T00:00:00.000Z", "limit": "100"}
    assert api.asked[1][2] | {"cursor": "c1", "limit": "20"} == api.asked[1][2]


def test_a_list_for_people_is_aligned_and_tells_why(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    error = {"type": "ValueError", "message": "no", "class": "transient"}
    api.answers = [(200, {"items": [JOB | {"state": "dead", "error": error}], "next_cursor": None})]
    assert main(["jobs", "ls"]) == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.split() == ["ID", "TYPE", "TENANT", "STATE", "ATTEMPT", "CREATED", "ERROR"]
    assert line.endswith("ValueError: no")
