"""What operators steer over HTTP and from the command line: pauses, limits, weights, kill switches, priorities."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.rest.conftest import ApiProcess, Kafka, api, kafka  # noqa: F401 - fixtures

COMMAND = [sys.executable, "-m", "logqueue_api.cli.main"]


def publish(client: Kafka) -> None:
    """A definition as a worker of an app with priorities and limits publishes it."""
    value = {
        "app": "shop",
        "group": f"{client.prefix}shop",
        "type": "mail.bulk",
        "queue": "bulk",
        "args_schema": {"type": "object"},
        "order": "none",
        "priorities": {"high": 6.0, "normal": 3.0},
        "default_priority": "normal",
        "spread": 4,
        "queue_limits": [{"by": "tenant", "running": 2}],
        "limits": [{"by": "type", "rate": "10/s"}],
    }
    client.send("jobs.control", json.dumps(value).encode(), key="definition/shop/mail.bulk")


def post(process: ApiProcess, path: str, status: int = 202, **body: Any) -> dict[str, Any]:
    answer = process.http.post(path, json=body, headers={"X-Logqueue-Actor": "ann"})
    assert answer.status_code == status, answer.text
    document: dict[str, Any] = answer.json()
    return document


def items(process: ApiProcess, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = process.http.get(path).json()["items"]
    return found


def test_pauses_stand_with_who_and_why_until_they_are_taken_back(api: ApiProcess, kafka: Kafka) -> None:  # noqa: F811
    publish(kafka)
    assert post(api, "/v1/queues/mail:pause", reason="broken")["key"] == "pause/queue/mail"
    post(api, "/v1/queues/mail:pause", tenant="ac/me")
    post(api, "/v1/types/mail.send:pause")
    keys = {"pause/queue/mail", "pause/tenant/mail/ac/me", "pause/type/mail.send"}
    api.until(lambda: {item["key"] for item in items(api, "/v1/pauses")} == keys, "paused")
    (queue,) = [item for item in items(api, "/v1/pauses") if item["key"] == "pause/queue/mail"]
    assert (queue["by"], queue["value"]) == ("ann", {"reason": "broken"})
    post(api, "/v1/queues/mail:resume")
    post(api, "/v1/queues/mail:resume", tenant="ac/me")
    post(api, "/v1/types/mail.send:resume")
    api.until(lambda: items(api, "/v1/pauses") == [], "resumed")


def test_limits_are_listed_as_declared_and_as_commanded(api: ApiProcess, kafka: Kafka) -> None:  # noqa: F811
    publish(kafka)
    api.until(lambda: len(items(api, "/v1/limits")) == 2, "declared limits known")
    post(api, "/v1/limits:set", queue="bulk", by="tenant", running=5, rate="100/s", burst=20)
    post(api, "/v1/limits:set", queue="bulk", tenant="acme", running=1)
    post(api, "/v1/limits:set", type="mail.bulk", by="argument:campaign", running=1)
    post(api, "/v1/limits:set", type="mail.bulk", by="type")
    api.until(lambda: len(items(api, "/v1/limits")) == 6, "commanded limits known")
    found = {
        (item["source"], item["scope"], item["subject"], item["by"]): (item["running"], item["rate"], item["burst"])
        for item in items(api, "/v1/limits")
    }
    assert found == {
        ("declared", "queue", "bulk", "tenant"): (2, None, None),
        ("declared", "type", "mail.bulk", "type"): (None, "10/s", None),
        ("commanded", "queue", "bulk", "tenant"): (5, "100/s", 20),
        ("commanded", "tenant", "bulk/acme", "tenant"): (1, None, None),
        ("commanded", "type", "mail.bulk", "argument:campaign"): (1, None, None),
        ("commanded", "type", "mail.bulk", "type"): (None, None, None),
    }
    post(api, "/v1/limits:remove", queue="bulk", by="tenant")
    api.until(lambda: len(items(api, "/v1/limits")) == 5, "taken back")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/limits:set", {"queue": "mail", "by": "colour", "running": 1}, "by"),
        ("/v1/limits:set", {"queue": "mail", "by": "tenant", "rate": "fast"}, "rate"),
        ("/v1/limits:set", {"queue": "mail", "by": "tenant", "burst": 3}, "burst"),
        ("/v1/limits:set", {"by": "tenant", "running": 1}, "queue"),
        ("/v1/limits:set", {"tenant": "acme", "running": 1}, "tenant"),
        ("/v1/weights:set", {"queue": "mail", "weight": 2}, "tenant"),
        ("/v1/weights:set", {"queue": "mail", "tenant": "a", "weight": 0}, "weight"),
        ("/v1/kills:set", {"name": "a b", "type": "mail.send"}, "name"),
        ("/v1/queues/mail:pause", {"colour": "red"}, "colour"),
        ("/v1/queues/No:pause", {}, "queue"),
    ],
)
def test_what_cannot_be_is_refused_with_the_field_at_fault(
    api: ApiProcess,  # noqa: F811
    path: str,
    body: dict[str, Any],
    field: str,
) -> None:
    problem = post(api, path, 400, **body)
    assert field in json.dumps(problem["errors"])


def test_a_mistyped_queue_is_not_paused_in_vain(api: ApiProcess, kafka: Kafka) -> None:  # noqa: F811
    publish(kafka)
    api.until(lambda: any(item["subject"] == "bulk" for item in items(api, "/v1/limits")), "definitions known")
    for path, body, near in (
        ("/v1/queues/bulc:pause", {}, "bulk"),
        ("/v1/types/mail.bulc:pause", {}, "mail.bulk"),
        ("/v1/kills:set", {"name": "k", "type": "mail.bulc"}, "mail.bulk"),
        ("/v1/kills:set", {"name": "k", "type": "mail.bulk", "queue": "bulc"}, "bulk"),
        ("/v1/limits:set", {"type": "mail.bulc", "running": 1}, "mail.bulk"),
        ("/v1/weights:set", {"queue": "bulc", "tenant": "a", "weight": 2}, "bulk"),
    ):
        detail = post(api, path, 404, **body)["detail"]
        assert f"did you mean {near}" in detail and "`force`" in detail


def test_a_kill_switch_that_selects_no_job_is_refused(api: ApiProcess, kafka: Kafka) -> None:  # noqa: F811
    publish(kafka)
    api.until(lambda: any(item["subject"] == "bulk" for item in items(api, "/v1/limits")), "definitions known")
    for arguments, fault in (({"colour": "red"}, "args.colour: unknown argument"), ({"to": 5}, "args.to: ")):
        assert fault in post(api, "/v1/kills:set", 400, name="k", type="mail.send", arguments=arguments)["detail"]
    post(api, "/v1/kills:set", name="k", type="mail.send", arguments={"colour": "red"}, force=True)
    post(api, "/v1/kills:remove", name="k")


def test_what_is_not_deployed_yet_is_paused_and_killed_by_force(api: ApiProcess) -> None:  # noqa: F811
    post(api, "/v1/queues/tomorrow:pause", force=True)
    post(api, "/v1/types/to.morrow:pause", force=True)
    post(api, "/v1/kills:set", name="early", type="to.morrow", queue="tomorrow", force=True)
    api.until(lambda: len(items(api, "/v1/pauses")) == 2 and len(items(api, "/v1/kills")) == 1, "set")
    post(api, "/v1/queues/tomorrow:resume")
    post(api, "/v1/types/to.morrow:resume")
    post(api, "/v1/kills:remove", name="early")  # known or not yet: it was thrown
    api.until(lambda: items(api, "/v1/pauses") == [] == items(api, "/v1/kills"), "taken back")


def test_what_does_not_stand_cannot_be_taken_back(api: ApiProcess) -> None:  # noqa: F811
    post(api, "/v1/kills:set", name="once", type="mail.send")
    post(api, "/v1/kills:remove", name="once")
    api.until(lambda: items(api, "/v1/kills") == [], "taken back")
    assert "no kill switch 'once' stands; there is none" in post(api, "/v1/kills:remove", 404, name="once")["detail"]
    assert "no commanded limit" in post(api, "/v1/limits:remove", 404, queue="mail")["detail"]
    assert "no commanded weight" in post(api, "/v1/weights:remove", 404, queue="mail", tenant="x")["detail"]


def test_a_limit_without_a_scope_is_that_of_the_whole_queue_or_type(api: ApiProcess) -> None:  # noqa: F811
    assert post(api, "/v1/limits:set", queue="mail", running=3)["key"] == "limit/queue/mail/queue"
    assert post(api, "/v1/limits:set", type="mail.send", rate="5/10s")["key"] == "limit/type/type/mail.send"
    post(api, "/v1/limits:remove", queue="mail")
    post(api, "/v1/limits:remove", type="mail.send")


def test_weights_and_kill_switches_stand_until_they_are_taken_back(api: ApiProcess) -> None:  # noqa: F811
    post(api, "/v1/weights:set", queue="mail", tenant="acme", weight=3)
    post(api, "/v1/weights:set", queue="mail", priority="high", weight=9)
    post(api, "/v1/kills:set", name="bad", type="mail.send", arguments={"to": "x"}, reason="wrong list")
    api.until(lambda: len(items(api, "/v1/weights")) == 2 and len(items(api, "/v1/kills")) == 1, "set")
    assert items(api, "/v1/kills")[0]["value"] == {
        "type": "mail.send",
        "arguments": {"to": "x"},
        "reason": "wrong list",
    }
    post(api, "/v1/weights:remove", queue="mail", tenant="acme")
    post(api, "/v1/weights:remove", queue="mail", priority="high")
    post(api, "/v1/kills:remove", name="bad")
    api.until(lambda: not items(api, "/v1/weights") and not items(api, "/v1/kills"), "taken back")


def test_a_job_goes_to_the_topic_of_its_priority_and_to_one_of_its_tenants_keys(
    api: ApiProcess,  # noqa: F811
    kafka: Kafka,  # noqa: F811
) -> None:
    publish(kafka)
    receipts = [
        post(api, "/v1/jobs", type="mail.bulk", tenant="acme", priority=priority)
        for priority in ["high"] * 12 + ["normal"]
    ]
    assert receipts[0]["topic"] == f"{kafka.prefix}jobs.bulk.high"
    assert receipts[-1]["topic"] == f"{kafka.prefix}jobs.bulk"
    assert len({receipt["partition"] for receipt in receipts}) > 1
    assert {api.job(receipt["id"])["tenant"] for receipt in receipts} == {"acme"}
    problem = post(api, "/v1/jobs", 400, type="mail.bulk", priority="urgent")
    assert "high, normal" in problem["detail"]


def test_the_command_line_does_the_same(api: ApiProcess) -> None:  # noqa: F811
    def run(*words: str) -> Any:
        done = subprocess.run(
            [*COMMAND, *words, "--api", api.url, "--json"], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert run("queue", "pause", "mail", "--tenant", "acme", "--by", "ann")["key"] == "pause/tenant/mail/acme"
    assert run("limit", "set", "-q", "mail", "--each", "tenant", "--rate", "5/s")["value"] == {"rate": "5/s"}
    assert run("weight", "set", "mail", "2.5", "--tenant", "acme")["value"] == {"weight": 2.5}
    assert run("kill", "set", "bad", "mail.send", "to=x", "copies=2")["value"]["arguments"] == {"to": "x", "copies": 2}
    api.until(lambda: len(items(api, "/v1/kills")) == 1, "commands known")
    assert [item["by"] for item in run("queue", "ls")["pauses"]] == ["ann"]
    assert [item["rate"] for item in run("limit", "ls")["items"] if item["subject"] == "mail"] == ["5/s"]
    assert len(run("weight", "ls")["items"]) == len(run("kill", "ls")["items"]) == 1
    run("queue", "resume", "mail", "--tenant", "acme")
    run("limit", "rm", "-q", "mail", "--each", "tenant")
    run("weight", "rm", "mail", "--tenant", "acme")
    run("kill", "rm", "bad")
    api.until(lambda: not items(api, "/v1/pauses") and not items(api, "/v1/kills"), "taken back")
