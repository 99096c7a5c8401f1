"""What `up` shows: the three screens, the rates, the lines to copy, the card they are made from."""

from __future__ import annotations

import io
import json
import shlex
from itertools import pairwise

import pytest
from logqueue_api.up.app_card import AppCard, JobCard, example_of
from logqueue_api.up.board import Addresses, Board, ChildLine
from logqueue_api.up.child import Notice
from logqueue_api.up.counts import QueueCounts, Rates
from logqueue_api.up.hints import hints
from logqueue_api.up.screens import JsonScreen, LiveScreen, PlainScreen, make_screen, shown_states

from logqueue.jobs.settings import Settings

ADDRESSES = Addresses(
    bootstrap="127.0.0.1:9092", api="http://127.0.0.1:8080", data_dir="data", is_embedded=True, app="shop (shop.py)"
)
CARD = AppCard(
    name="shop",
    group="shop",
    queues=("emails",),
    jobs=(
        JobCard(
            type="email.send",
            queue="emails",
            is_default=False,
            module="shop",
            function="send_email",
            example={"to": "it's me", "n": 3, "text": "7"},
        ),
    ),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines() -> dict[str, str]:
    found = hints(
        card=CARD, bootstrap="127.0.0.1:7777", api="http://127.0.0.1:8080", logqueue="logqueue", python="python3"
    )
    return {hint.what: hint.line for hint in found}


def test_the_http_line_is_one_shell_word_of_json() -> None:
    words = shlex.split(lines()["the same over HTTP"])
    assert words[:3] == ["curl", "-s", "http://127.0.0.1:8080/v1/jobs"]
    assert json.loads(words[-1]) == {
        "type": "email.send",
        "tenant": "acme",
        "args": {"to": "it's me", "n": 3, "text": "7"},
    }


def test_the_kafka_line_names_the_type_unless_it_is_the_queues_default() -> None:
    line = lines()["from any Kafka client"]
    assert "-H ce_type=email.send" in line
    assert json.loads(shlex.split(line)[1]) == {"to": "it's me", "n": 3, "text": "7"}


def test_the_submit_line_reads_back_as_the_same_arguments() -> None:
    from logqueue_api.cli.commands.submit import _value

    words = shlex.split(lines()["submit a job and wait for it"])
    pairs = dict(word.split("=", 1) for word in words if "=" in word)
    assert {name: _value(text) for name, text in pairs.items()} == {"to": "it's me", "n": 3, "text": "7"}


def test_the_python_line_is_python() -> None:
    line = lines()["from Python"]
    assert line.startswith("LOGQUEUE_BOOTSTRAP=127.0.0.1:7777 python3 - <<'END'\n")
    compile(line.split("\n", 1)[1].removesuffix("END"), "hint", "exec")


def test_the_lines_for_a_log_that_wants_a_login_bring_it_along_but_never_show_a_secret() -> None:
    settings = Settings(
        bootstrap="b:1",
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-256",
        sasl_username="it's me",
        sasl_password="hidden",
        ssl_cafile="ca.pem",
    )
    found = hints(card=CARD, bootstrap="b:1", api="a", logqueue="logqueue", python="p", settings=settings)
    texts = {hint.what: hint.line for hint in found}
    assert "hidden" not in str(texts)
    export, ask = texts["what the lines below need to know"].splitlines()
    assert dict(word.split("=", 1) for word in shlex.split(export)[1:]) == {
        "LOGQUEUE_SECURITY_PROTOCOL": "SASL_SSL",
        "LOGQUEUE_SSL_CAFILE": "ca.pem",
        "LOGQUEUE_SASL_MECHANISM": "SCRAM-SHA-256",
        "LOGQUEUE_SASL_USERNAME": "it's me",
    }
    assert ask.endswith("LOGQUEUE_SASL_PASSWORD; export LOGQUEUE_SASL_PASSWORD")
    words = shlex.split(texts["from any Kafka client"])
    assert [after for word, after in pairwise(words) if word == "-X"] == [
        "security.protocol=SASL_SSL",
        "ssl.ca.location=ca.pem",
        "sasl.mechanism=SCRAM-SHA-256",
        "sasl.username=it's me",
        "sasl.password=$LOGQUEUE_SASL_PASSWORD",
        "topic.partitioner=murmur2_random",
    ]


def test_a_client_certificate_and_its_key_may_be_one_file() -> None:
    settings = Settings(bootstrap="b:1", security_protocol="SSL", ssl_certfile="me.pem")
    found = hints(card=None, bootstrap="b:1", api="a", logqueue="logqueue", python="p", settings=settings)
    words = shlex.split(found[-1].line)
    assert [after for word, after in pairwise(words) if word == "-X"] == [
        "security.protocol=SSL",
        "ssl.certificate.location=me.pem",
        "ssl.key.location=me.pem",
    ]


def test_a_job_without_a_name_in_its_module_has_no_python_line() -> None:
    anonymous = AppCard(
        name="x",
        group="x",
        queues=("q",),
        jobs=(JobCard(type="t", queue="q", is_default=True, module="m", function="", example={}),),
    )
    found = hints(card=anonymous, bootstrap="b:1", api="http://a", logqueue="logqueue", python="python")
    assert "from Python" not in {hint.what for hint in found}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "text"),
        ({"type": "string", "minLength": 9}, "xxxxxxxxx"),
        ({"type": "string", "format": "date-time"}, "2026-01-31T12:00:00Z"),
        ({"type": "integer", "minimum": 5}, 5),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 1),
        ({"enum": ["small", "large"]}, "small"),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [True, True]),
        ({"type": "array", "items": {"type": "boolean"}}, []),
        ({"type": "string", "examples": ["UA"]}, "UA"),
        ({}, {}),
    ],
)
def test_an_example_is_the_plainest_value_of_a_schema(schema: dict[str, object], value: object) -> None:
    assert example_of(schema) == value


def test_an_example_holds_what_is_required_or_has_an_example() -> None:
    schema = {
        "$ref": "#/$defs/Args",
        "$defs": {
            "Args": {
                "type": "object",
                "required": ["to", "inner"],
                "properties": {
                    "to": {"type": "string"},
                    "inner": {"$ref": "#/$defs/Inner"},
                    "cc": {"type": "string", "default": ""},
                    "hint": {"type": "integer", "default": 0, "examples": [4]},
                },
            },
            "Inner": {"type": "object", "required": ["n"], "properties": {"n": {"type": "number"}}},
        },
    }
    assert example_of(schema) == {"to": "text", "inner": {"n": 1}, "hint": 4}


def test_a_schema_that_contains_itself_ends() -> None:
    node = {"type": "object", "required": ["next"], "properties": {"next": {"$ref": "#/$defs/Node"}}}
    assert example_of({"$ref": "#/$defs/Node", "$defs": {"Node": node}}) is not None


def test_a_rate_is_what_ended_over_the_window() -> None:
    rates = Rates()

    def take(now: float, succeeded: int, dead: int) -> float:
        answer = {"items": [{"queue": "q", "counts": {"succeeded": succeeded, "dead": dead, "queued": 5}}]}
        return rates.take(answer, now=now)[0].rate

    assert take(0, 0, 0) == 0
    assert take(1, 90, 10) == 100
    assert take(2, 100, 100) == 100
    for second in range(3, 20):
        last = take(second, 100, 100)
    assert last == 0
    assert Rates().take(None, now=0) == []


def test_a_state_gets_a_column_when_a_queue_has_jobs_in_it() -> None:
    assert "parked" not in shown_states([QueueCounts("q", {"parked": 0})])
    assert "parked" in shown_states([QueueCounts("q", {"parked": 1})])


def board() -> Board:
    found = Board(
        children=[ChildLine("broker", "ready", 1, 0), ChildLine("worker-1", "restarting", None, 2)],
        queues=[QueueCounts("emails", {"succeeded": 1234, "parked": 2}, rate=56.7)],
        feed="10 of 20",
    )
    found.problems.append(("12:00:00", Notice("worker-1", "ended (killed by SIGKILL)", is_problem=True)))
    return found


def test_the_live_screen_shows_addresses_children_counts_and_problems() -> None:
    out, shown = Terminal(), board()
    screen = make_screen(shown, is_json=False, stream=out)
    assert isinstance(screen, LiveScreen)
    screen.ready(ADDRESSES, hints(card=CARD, bootstrap="b:1", api="a", logqueue="logqueue", python="p"), {})
    screen.draw(shown)
    screen.close()
    text = out.getvalue()
    for part in ("127.0.0.1:9092", "http://127.0.0.1:8080/docs", "restarted 2x", "1,234", "57", "10 of 20", "SIGKILL"):
        assert part in text


def test_the_plain_screen_repeats_counts_only_when_they_change() -> None:
    out, time, shown = io.StringIO(), [100.0], board()
    screen = PlainScreen(out, now=lambda: time[0])
    for _ in range(3):
        screen.draw(shown)
        time[0] += 10
    assert out.getvalue() == "emails: 2 parked, 1234 succeeded\n"


def test_the_json_screen_is_one_object_a_line() -> None:
    out, shown = io.StringIO(), board()
    screen = make_screen(shown, is_json=True, stream=out)
    assert isinstance(screen, JsonScreen)
    screen.phase("starting the log")
    screen.ready(ADDRESSES, [], {"bootstrap": "b:1"})
    screen.notice(shown.problems[0][1])
    screen.draw(shown)
    screen.draw(shown)
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["phase", "ready", "notice", "counts"]
