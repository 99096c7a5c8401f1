"""Dead letters over HTTP: listed with their reason, sent round again by the group that gave up."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import httpx

from tests.rest.conftest import ApiProcess, Kafka

SLOW = {"group": "shop", "rate": 0.001, "limit": 10}


def bury(
    kafka: Kafka, job_id: str, *, tenant: str = "acme", error: str = "NoSuchCustomer", group: str = "shop", **more: str
) -> int:
    """A dead letter as a worker writes it; its offset."""
    headers = {
        "ce_id": job_id,
        "ce_type": "mail.send",
        "job-attempt": "3",
        "job-error-type": error,
        "job-error-message": f"{error} of {job_id}",
        "job-error-class": "permanent",
        "job-first-failed-at": "2026-01-01T00:00:00.000Z",
        "job-origin-topic": f"{kafka.prefix}jobs.mail",
        "job-origin-partition": "2",
        "job-origin-offset": "17",
        "job-origin-group": group,
    } | more
    _, offset = kafka.send(f"dlq.mail.{group}", b'{"to": "\xc3\xbc"}', key=tenant, headers=headers, partition=0)
    return offset


def letters(api: ApiProcess, **query: Any) -> list[dict[str, Any]]:
    answer = api.http.get("/v1/dlq/mail", params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def test_a_dead_letter_is_listed_with_its_reason_and_its_origin(api: ApiProcess, kafka: Kafka) -> None:
    bury(kafka, "dead-1")
    letter = next(item for item in letters(api) if item["id"] == "dead-1")
    assert letter["error"] == {"type": "NoSuchCustomer", "message": "NoSuchCustomer of dead-1", "class": "permanent"}
    assert letter["origin"] == {"topic": f"{kafka.prefix}jobs.mail", "partition": 2, "offset": 17}
    assert (letter["group"], letter["attempt"], letter["is_open"]) == ("shop", 3, True)
    assert letter["preview"] == '{"to": "ü"}'
    shown = api.http.get("/v1/dlq/mail/dead-1", params={"group": "shop"}).json()["items"]
    assert [item["value"] for item in shown] == [{"to": "ü"}]
    topics = {item["topic"]: item for item in api.http.get("/v1/dlq").json()["items"]}
    counted = topics[f"{kafka.prefix}dlq.mail.shop"]
    listed = letters(api, group="shop", limit=1000)
    assert (counted["open"], counted["letters"]) == (sum(item["is_open"] for item in listed), len(listed))
    assert counted["offsets"] >= counted["letters"] >= 1


def test_a_dead_letter_with_bad_headers_is_listed_under_the_id_of_its_job(api: ApiProcess, kafka: Kafka) -> None:
    bury(kafka, "dead-4", tenant="foreign", **{"job-replay": "once"})
    assert [(item["id"], item["type"]) for item in letters(api, tenant="foreign")] == [("dead-4", "mail.send")]


def test_dead_letters_are_filtered_by_tenant_and_error(api: ApiProcess, kafka: Kafka) -> None:
    bury(kafka, "dead-2", tenant="zeta", error="Bounced")
    assert [item["id"] for item in letters(api, tenant="zeta")] == ["dead-2"]
    assert [item["id"] for item in letters(api, error_type="Bounced")] == ["dead-2"]
    assert letters(api, tenant="nobody") == []
    wrong = api.http.get("/v1/dlq/mail", params={"error_class": "foo"})
    assert wrong.status_code == 400 and "unknown-type" in wrong.json()["detail"], "the classes are listed"


def test_a_dry_run_of_a_replay_only_counts(api: ApiProcess, kafka: Kafka) -> None:
    bury(kafka, "dead-3", error="Dry")
    answer = api.http.post("/v1/dlq/mail:replay", json={"group": "shop", "error_type": "Dry", "dry_run": True})
    assert answer.status_code == 202, answer.text
    assert (answer.json()["matched"], answer.json()["replayed"], answer.json()["dry_run"]) == (1, 0, True)
    assert [item["is_open"] for item in letters(api, error_type="Dry")] == [True]


def test_a_replayed_letter_is_queued_again_once_for_the_group_that_gave_up(api: ApiProcess, kafka: Kafka) -> None:
    bury(kafka, "dead-4", error="Again")
    answer = api.http.post("/v1/dlq/mail:replay", json={"group": "shop", "error_type": "Again"})
    assert (answer.status_code, answer.json()["replayed"]) == (202, 1)
    job = api.job("dead-4")
    assert (job["state"], job["replay"], job["offset"]) == ("queued", 1, 17)
    assert [item["is_open"] for item in letters(api, error_type="Again")] == [False]
    assert letters(api, error_type="Again", open=True) == []
    assert api.http.post("/v1/dlq/mail:replay", json={"group": "shop", "error_type": "Again"}).json()["replayed"] == 0


def test_the_ids_under_which_conflicts_run_are_told(api: ApiProcess, kafka: Kafka) -> None:
    bury(kafka, "taken", error="KeyConflict", **{"job-error-class": "conflict"})
    own = [f"{kafka.prefix}jobs.mail-2-17"]
    for dry_run in (True, False):
        done = replay(api, error_type="KeyConflict", dry_run=dry_run).json()
        assert (done["matched"], done["own"]) == (1, own)
    assert api.http.get(f"/v1/operations/{done['id']}").json()["own"] == own
    assert api.job(own[0])["replay"] == 1


def test_with_dead_letters_of_several_groups_a_replay_must_name_one(api: ApiProcess, kafka: Kafka) -> None:
    bury(kafka, "dead-5", group="shop")
    bury(kafka, "dead-6", group="other")
    answer = api.http.post("/v1/dlq/mail:replay", json={})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "group"
    assert api.http.post("/v1/dlq/mail:replay", json={"group": "third"}).status_code == 404
    listed = {item["group"] for item in letters(api)}
    assert {"shop", "other"} <= listed


def replay(api: ApiProcess, verb: str = "replay", **body: Any) -> Any:
    return api.http.post(f"/v1/dlq/mail:{verb}", json={"group": "shop", **body}, headers={"X-Logqueue-Actor": "ann"})


def open_count(api: ApiProcess) -> int:
    return sum(item["open"] for item in api.http.get("/v1/dlq").json()["items"] if item["group"] == "shop")


def test_discarded_letters_are_not_open_any_more(api: ApiProcess, kafka: Kafka) -> None:
    bury(kafka, "moot", error="Moot")
    tried = replay(api, "discard", error_type="Moot", dry_run=True).json()
    assert (tried["matched"], tried["replayed"], tried["dry_run"]) == (1, 0, True)
    open_before = open_count(api)
    assert replay(api, "discard", error_type="Moot").json()["matched"] == 1
    assert open_count(api) == open_before - 1
    assert [letter["status"] for letter in letters(api, error_type="Moot")] == ["discarded"]
    assert letters(api, error_type="Moot", open="true") == []
    assert replay(api, error_type="Moot").json()["matched"] == 0
    entries = api.http.get("/v1/audit", params={"limit": 5}).json()["items"]
    assert any(item["by"] == "ann" and item["value"].get("id") == "moot" for item in entries)


def test_a_letter_is_edited_within_what_its_handler_takes(api: ApiProcess, kafka: Kafka) -> None:
    bury(kafka, "typo", error="Typo")
    wrong = replay(api, ids=["typo"], args={"to": 5})
    assert wrong.status_code == 400 and wrong.json()["errors"][0]["field"] == "args.to"
    assert [letter["status"] for letter in letters(api, error_type="Typo")] == ["open"], "nothing was sent"
    assert replay(api, args={"to": "x"}).status_code == 400, "which one?"
    assert replay(api, ids=["typo"], as_type="push.send").status_code == 400, "of another queue"
    done = replay(api, ids=["typo"], args={"to": "x@y.z"}, rate=100).json()
    assert (done["state"], done["replayed"]) == ("done", 1)
    records = api.http.get(f"/v1/topics/{kafka.prefix}retry.mail.shop").json()
    found = []
    for part in (part for part in records["partitions"] if part["start"] < part["end"]):
        page = api.http.get(
            f"/v1/topics/{kafka.prefix}retry.mail.shop/records", params={"partition": part["partition"]}
        )
        found += [item["value"] for item in page.json()["items"]]
    assert {"to": "x@y.z"} in found


def test_a_closed_letter_that_is_named_is_refused_unless_it_is_wanted_again(api: ApiProcess, kafka: Kafka) -> None:
    bury(kafka, "twice", error="Twice")
    assert replay(api, ids=["twice", "twice"]).json()["replayed"] == 1, "named twice, sent once"
    refused = replay(api, ids=["twice"])
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:logqueue:letter-closed")
    assert "replayed by ann" in refused.json()["detail"]
    assert replay(api, "discard", ids=["twice"]).status_code == 409
    assert replay(api, again=True).status_code == 400, "which ones?"
    assert replay(api, ids=["twice"], again=True).json()["replayed"] == 1
    api.until(lambda: api.job("twice")["replay"] == 2, "round a second time")


def test_other_arguments_are_checked_by_a_dry_run_too(api: ApiProcess, kafka: Kafka) -> None:
    bury(kafka, "typo-2", error="Typo2")
    wrong = replay(api, ids=["typo-2"], args={"too": "x"}, dry_run=True)
    assert wrong.status_code == 400
    assert {item["field"] for item in wrong.json()["errors"]} == {"args.to", "args.too"}


def test_letters_are_filtered_by_the_time_of_their_death(api: ApiProcess, kafka: Kafka) -> None:
    bury(kafka, "timed", error="Timed")
    assert len(letters(api, error_type="Timed", since="2020-01-01T00:00:00Z")) == 1
    assert letters(api, error_type="Timed", until="2020-01-01T00:00:00Z") == []
    assert api.http.get("/v1/dlq/mail", params={"since": "yesterday"}).status_code == 400


def test_letters_of_another_system_are_listed_from_its_topic(api: ApiProcess, kafka: Kafka) -> None:
    headers = {
        "__connect.errors.topic": "orders",
        "__connect.errors.partition": "1",
        "__connect.errors.offset": "5",
        "__connect.errors.exception.class.name": "a.b.DataException",
    }
    kafka.send("sink-dlq", b'{"to": "x"}', key="acme", headers=headers)
    (letter,) = letters(api, topic=f"{kafka.prefix}sink-dlq")
    assert (letter["id"], letter["system"], letter["error"]["type"]) == ("orders-1-5", "connect", "DataException")
    shown = api.http.get("/v1/dlq/mail/orders-1-5", params={"topic": f"{kafka.prefix}sink-dlq"}).json()["items"]
    assert shown[0]["value"] == {"to": "x"}
    done = replay(api, topic=f"{kafka.prefix}sink-dlq", as_type="mail.send").json()
    assert (done["replayed"], done["group"]) == (1, "shop")
    assert [item["status"] for item in letters(api, topic=f"{kafka.prefix}sink-dlq")] == ["replayed"]
    assert api.http.get("/v1/dlq/mail", params={"topic": "nowhere"}).status_code == 404


def test_values_in_avro_are_shown_decoded(api: ApiProcess, kafka: Kafka) -> None:
    schema = {"type": "record", "name": "Mail", "fields": [{"name": "to", "type": "string"}]}
    value = json.dumps({"subject": "mail", "version": 1, "id": 77, "schema": json.dumps(schema), "deleted": False})
    kafka.send("_schemas", value.encode(), key='{"keytype":"SCHEMA","subject":"mail","version":1,"magic":1}')
    kafka.send("dlq.mail.shop", b"\x00\x00\x00\x00\x4d\x06a@b", key="acme", headers={"ce_id": "avro-1"}, partition=0)
    (shown,) = api.http.get("/v1/dlq/mail/avro-1", params={"group": "shop"}).json()["items"]
    assert (shown["value"], shown["value_format"]) == ({"to": "a@b"}, "avro")


def test_every_body_of_a_dead_letter_route_is_in_the_document(api: ApiProcess) -> None:
    document = api.http.get("/openapi.json").json()
    models = document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            if "$ref" in body:
                assert body["$ref"].rpartition("/")[2] in models, path


def test_replays_that_take_hours_keep_nobody_from_looking(api: ApiProcess, kafka: Kafka) -> None:
    for number in range(6):
        bury(kafka, f"slow-{number}", tenant=f"slow-{number % 3}", error="Slow")
    for number in range(3):
        with suppress(httpx.ReadTimeout):  # the caller goes, the replay goes on
            api.http.post("/v1/dlq/mail:replay", json=SLOW | {"tenant": f"slow-{number}"}, timeout=1)
    assert len(letters(api, error_type="Slow")) == 6


def test_a_replay_that_would_hold_its_place_for_days_is_refused(api: ApiProcess, kafka: Kafka) -> None:
    bury(kafka, "late", error="Late")
    for slow in ({"error_type": "Late", "rate": 1e-6}, {"ids": ["late", "later"], "rate": 2e-5}):
        refused = replay(api, **slow)
        assert refused.status_code == 400, refused.text
        assert [fault["field"] for fault in refused.json()["errors"]] == ["rate"]
        assert "jobs take longer than 24 hours" in refused.json()["detail"]
    assert [letter["status"] for letter in letters(api, error_type="Late")] == ["open"]
    assert replay(api, ids=["late"], rate=2e-5).json()["replayed"] == 1, "one job goes at once"
