"""job cancel|retry|run-now|discard|log and their bulk forms, against an API that answers what the test says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from logqueue_api.cli.main import main

from tests.cli.scripted_api import scripted_api


class Api:
    """What was asked (method, path, actor, body), and the answers still to be given."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None, Any]] = []
        self.answers: list[tuple[int, Any]] = []


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Api]:
    fake = Api()

    def respond(request: BaseHTTPRequestHandler, body: Any) -> tuple[int, Any]:
        fake.asked.append((request.command, request.path, request.headers.get("X-Logqueue-Actor"), body))
        return fake.answers.pop(0)

    with scripted_api(respond) as url:
        monkeypatch.setenv("LOGQUEUE_API", url)
        monkeypatch.chdir(tmp_path)
        yield fake


def receipt(verb: str, *, accepted: bool = True) -> dict[str, Any]:
    return {"id": "a/b", "command": verb, "state": "dead", "by": "ann", "accepted": accepted}


def operation(state: str = "done", **more: Any) -> dict[str, Any]:
    return {
        "id": "op1", "operation": "jobs:cancel", "state": state, "by": "ann", "dry_run": False, "counts": {},
        "detail": None, "started_at": "2026-08-01T12:00:00Z", "finished_at": None, **more,
    }  # fmt: skip


@pytest.mark.parametrize("verb", ["cancel", "retry", "run-now", "discard"])
def test_a_command_about_a_job_says_who_asks(api: Api, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    api.answers = [(202, receipt(verb))]
    assert main(["job", verb, "a/b", "--by", "ann"]) == 0
    assert api.asked == [("POST", f"/v1/jobs/a%2Fb:{verb}", "ann", {})]
    assert verb in capsys.readouterr().out


def test_without_a_name_user_and_host_ask(api: Api) -> None:
    api.answers = [(202, receipt("cancel", accepted=False))]
    assert main(["job", "cancel", "j", "--reason", "too slow"]) == 0
    _, _, actor, body = api.asked[0]
    assert actor is not None and "@" in actor
    assert body == {"reason": "too slow"}


def test_a_state_that_forbids_it_is_told(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    api.answers = [(409, {"status": 409, "detail": "job 'j' is succeeded; retry takes jobs that are dead"})]
    assert main(["job", "retry", "j"]) != 0
    assert "is succeeded" in capsys.readouterr().err


def test_a_bulk_change_is_followed_to_its_end(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    api.answers = [
        (202, operation("running", counts={"matched": 500})),
        (200, operation(counts={"matched": 700, "done": 690, "impossible": 10})),
    ]
    assert main(["jobs", "retry", "--state", "dead, expired", "--type", "t", "--since", "2026-08-01T00:00:00Z"]) == 0
    assert [asked[:2] for asked in api.asked] == [("POST", "/v1/jobs:retry"), ("GET", "/v1/operations/op1")]
    assert api.asked[0][3] == {
        "dry_run": False, "type": "t", "state": ["dead", "expired"], "since": "2026-08-01T00:00:00.000Z",
    }  # fmt: skip
    told = capsys.readouterr().out
    assert "690 sent round again" in told and "10 cannot be" in told


def test_a_dry_run_is_asked_for_as_such(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    api.answers = [(202, operation(dry_run=True, counts={"matched": 3}))]
    assert main(["jobs", "cancel", "-q", "mail", "--dry-run", "--json"]) == 0
    assert api.asked[0][3] == {"dry_run": True, "queue": "mail"}
    assert json.loads(capsys.readouterr().out)["counts"] == {"matched": 3}


@pytest.mark.parametrize("verb", ["cancel", "retry", "discard"])
def test_a_bulk_change_of_everything_is_refused(api: Api, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", verb]) == 2
    assert "which jobs?" in capsys.readouterr().err
    assert api.asked == []


@pytest.mark.parametrize("words", [["cancel", "-q", "mail"], ["ls"]])
def test_a_state_that_is_given_empty_is_not_every_state(
    api: Api, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("", ","):
        assert main(["jobs", *words, "--state", text]) == 2
        assert "is not a list of states" in capsys.readouterr().err
    assert api.asked == []


@pytest.mark.parametrize("field", ["tenant", "each", "rate"])
def test_what_is_given_empty_of_a_limit_is_sent_and_not_left_out(api: Api, field: str) -> None:
    words = ["-q", "mail", f"--{field}", ""]
    api.answers = [(400, {"detail": "is empty"})] * 2
    assert main(["limit", "set", *words, "--running", "2"]) == 2
    wanted = {"queue": "mail", "by" if field == "each" else field: ""}
    assert api.asked[0][1::2] == ("/v1/limits:set", wanted | {"running": 2})
    if field != "rate":
        assert main(["limit", "rm", *words]) == 2
        assert api.asked[1][1::2] == ("/v1/limits:remove", wanted)


def test_a_bulk_change_that_fails_is_a_failure(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    api.answers = [(202, operation("failed", detail="the log does not answer"))]
    assert main(["jobs", "cancel", "--tenant", "t"]) == 1
    assert "does not answer" in capsys.readouterr().err


def test_the_log_of_a_job_is_shown_with_its_progress(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    details = {
        "log": [{"at": 1_785_585_600_000, "attempt": 1, "line": "began"}],
        "log_dropped": 4,
        "progress": {"done": 3, "total": 10, "message": "page 3", "at": 1_785_585_600_000},
    }
    api.answers = [(200, {"id": "j", "details": details}), (200, {"id": "j", "details": {}})]
    assert main(["job", "log", "j"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "(4 older lines were not kept)"
    assert told[1].endswith("attempt 1  began")
    assert told[2] == "progress: 3 of 10 page 3"
    assert main(["job", "log", "j"]) == 0
    assert "nothing" in capsys.readouterr().out
