"""Cron schedules over HTTP and from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from logqueue.jobs.schedules import State, encode, new_schedule
from tests.rest.conftest import ApiProcess, Kafka, api, kafka  # noqa: F401 - fixtures

COMMAND = [sys.executable, "-m", "logqueue_api.cli.main"]


def publish(client: Kafka, name: str) -> None:
    """A definition and a schedule as a worker publishes them, and a state as the keeper does. Tests share the log."""
    definition = {
        "app": "shop",
        "group": f"{client.prefix}shop",
        "type": "mail.bulk",
        "queue": "bulk",
        "args_schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False},
        "order": "none",
    }
    client.send("jobs.control", json.dumps(definition).encode(), key="definition/shop/mail.bulk")
    nightly = new_schedule(
        name, type="mail.bulk", queue="bulk", arguments={}, app="shop", cron="0 3 * * *", timezone="Europe/Berlin"
    )
    client.send("jobs.schedules", encode({name: nightly}), key=f"declared/{name}")
    client.send("jobs.schedules", encode(State(next=1_800_000_000_000, fired=3)), key=f"state/{name}")


def post(process: ApiProcess, path: str, status: int = 202, **body: Any) -> dict[str, Any]:
    answer = process.http.post(path, json=body, headers={"X-Logqueue-Actor": "ann"})
    assert answer.status_code == status, answer.text
    document: dict[str, Any] = answer.json()
    return document


def schedules(process: ApiProcess) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in process.http.get("/v1/schedules").json()["items"]}


def test_schedules_are_listed_set_paused_run_and_removed(api: ApiProcess, kafka: Kafka) -> None:  # noqa: F811
    publish(kafka, "nightly")
    api.until(lambda: "nightly" in schedules(api) and schedules(api)["nightly"]["next_at"], "known")
    found = schedules(api)["nightly"]
    assert (found["source"], found["cron"], found["timezone"]) == ("declared", "0 3 * * *", "Europe/Berlin")
    assert (found["fired"], found["next_at"], found["paused"]) == (3, "2027-01-15T08:00:00.000000Z", False)

    receipt = post(api, "/v1/schedules/often:set", type="mail.bulk", every="10m", args={"n": 1}, overlap="skip")
    assert (receipt["name"], receipt["verb"], receipt["by"]) == ("often", "set", "ann")
    api.until(lambda: "often" in schedules(api), "set")
    assert schedules(api)["often"]["every"] == "10m"
    post(api, "/v1/schedules/often:pause")
    api.until(lambda: schedules(api)["often"]["paused_by"] == "ann", "paused")
    post(api, "/v1/schedules/often:resume")
    api.until(lambda: not schedules(api)["often"]["paused"], "resumed")
    assert post(api, "/v1/schedules/often:run")["job"].startswith("often@run-")
    post(api, "/v1/schedules/often:remove")
    post(api, "/v1/schedules/nightly:remove")
    api.until(lambda: not {"often", "nightly"} & schedules(api).keys(), "removed")


def test_a_declared_schedule_that_was_removed_or_set_over_comes_back_as_declared(api: ApiProcess, kafka: Kafka) -> None:  # noqa: F811
    publish(kafka, "yearly")
    api.until(lambda: "yearly" in schedules(api), "known")
    assert "nothing to restore" in post(api, "/v1/schedules/yearly:restore", 409)["detail"]
    assert post(api, "/v1/schedules/yearly:remove")["declared"] is True
    api.until(lambda: "yearly" not in schedules(api), "removed")
    assert "restore brings it back" in post(api, "/v1/schedules/yearly:pause", 404)["detail"]
    gone = api.http.get("/v1/schedules", params={"removed": "true"}).json()["items"]
    assert ("yearly", "removed") in {(item["name"], item["source"]) for item in gone}
    post(api, "/v1/schedules/yearly:restore")
    api.until(lambda: "yearly" in schedules(api), "restored")
    assert (schedules(api)["yearly"]["source"], schedules(api)["yearly"]["cron"]) == ("declared", "0 3 * * *")
    post(api, "/v1/schedules/yearly:set", type="mail.bulk", every="10m", args={"n": 1})
    api.until(lambda: schedules(api)["yearly"]["source"] == "set", "set over")
    post(api, "/v1/schedules/yearly:restore")
    api.until(lambda: schedules(api)["yearly"]["source"] == "declared", "restored")
    post(api, "/v1/schedules/own:set", type="mail.bulk", every="10m", args={"n": 1})
    api.until(lambda: "own" in schedules(api), "set")
    assert "no code declares" in post(api, "/v1/schedules/own:restore", 409)["detail"]
    assert post(api, "/v1/schedules/own:remove")["declared"] is False


def test_what_cannot_be_a_schedule_is_refused_with_its_reason(api: ApiProcess, kafka: Kafka) -> None:  # noqa: F811
    publish(kafka, "weekly")
    api.until(lambda: "weekly" in schedules(api), "known")
    for body, text in (
        ({"type": "mail.bulk", "cron": "61 * * * *"}, "Bad minute"),
        ({"type": "mail.bulk"}, "either cron= or every="),
        ({"type": "mail.bulk", "every": "1m", "args": {"n": "x"}}, "n"),
        ({"type": "mail.bulk", "every": "1m", "overlap": "x"}, "overlap"),
        ({"type": "mail.bulk", "cron": "* * * * *", "timezone": "Nowhere"}, "IANA"),
    ):
        assert text in post(api, "/v1/schedules/x:set", 400, **body)["detail"]
    assert "weekly" in post(api, "/v1/schedules/wekly:pause", 404)["detail"]
    assert api.http.get("/v1/schedules/nothing").status_code == 404


def test_the_command_line_sets_and_lists_schedules(api: ApiProcess, kafka: Kafka) -> None:  # noqa: F811
    publish(kafka, "monthly")
    api.until(lambda: "monthly" in schedules(api), "known")

    def command(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [*COMMAND, "schedule", *words, "--api", api.url], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    command(
        "set", "hourly", "mail.bulk", "--cron", "0 * * * *", "--tz", "Asia/Tokyo", "--args", '{"n": 2}', "--by", "bob"
    )
    api.until(lambda: "hourly" in schedules(api), "set")
    assert schedules(api)["hourly"]["arguments"] == {"n": 2}
    listed = command("ls")
    assert "0 * * * * Asia/Tokyo" in listed and "monthly" in listed
    assert json.loads(command("show", "hourly", "--json"))["timezone"] == "Asia/Tokyo"
    command("pause", "hourly")
    api.until(lambda: schedules(api)["hourly"]["paused"], "paused")
    assert "no schedule 'other'" in command("rm", "other", code=4)
    assert "schedule restore monthly" in command("rm", "monthly")
    api.until(lambda: "monthly" not in schedules(api), "removed")
    assert "monthly" in command("ls", "--removed")
    command("restore", "monthly")
    api.until(lambda: "monthly" in schedules(api), "restored")
