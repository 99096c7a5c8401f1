"""Jobs over HTTP: what is sent is found, whoever sent it."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from tests.rest.conftest import ApiProcess, Kafka


def post(api: ApiProcess, **body: Any) -> dict[str, Any]:
    answer = api.http.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    receipt: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{receipt['id']}"
    return receipt


def test_a_posted_job_is_on_the_log_and_read_back_by_its_position(api: ApiProcess, kafka: Kafka) -> None:
    receipt = post(api, type="mail.send", tenant="acme", args={"to": "a@b.c"})
    assert receipt["topic"] == f"{kafka.prefix}jobs.mail"
    answer = api.http.get(receipt_path(receipt), params={"min_position": receipt["position"]})
    job = answer.json()
    assert answer.status_code == 200
    assert {name: job[name] for name in ("id", "type", "queue", "tenant", "state", "attempt", "replay")} == {
        "id": receipt["id"],
        "type": "mail.send",
        "queue": "mail",
        "tenant": "acme",
        "state": "queued",
        "attempt": 1,
        "replay": 0,
    }
    assert (job["topic"], job["partition"], job["offset"]) == (
        receipt["topic"],
        receipt["partition"],
        receipt["offset"],
    )
    assert job["created_at"] == receipt["created_at"]
    assert "X-View-Lag" in answer.headers


def receipt_path(receipt: dict[str, Any]) -> str:
    return f"/v1/jobs/{receipt['id']}"


def test_a_type_that_was_published_before_the_request_is_known(api: ApiProcess, kafka: Kafka) -> None:
    for number in range(5):
        kafka.publish(f"fresh.{number}", "fresh", {"type": "object"})
        answer = api.http.post("/v1/jobs", json={"type": f"fresh.{number}"})
        assert answer.status_code == 202, answer.text


def test_the_record_holds_the_arguments_as_json_with_cloudevents_headers(api: ApiProcess) -> None:
    receipt = post(api, type="mail.send", args={"to": "ü@b.c", "copies": 2}, tenant="acme")
    query = {"partition": receipt["partition"], "offset": receipt["offset"], "limit": 1}
    page = api.http.get(f"/v1/topics/{receipt['topic']}/records", params=query).json()
    record = page["items"][0]
    assert record["value"] == {"to": "ü@b.c", "copies": 2}
    assert record["value_format"] == "json"
    assert record["key"] == "acme"
    headers = {header["name"]: header["value"] for header in record["headers"]}
    assert headers["ce_id"] == receipt["id"]
    assert headers["ce_type"] == "mail.send"


def test_a_record_of_a_foreign_producer_is_a_job(api: ApiProcess, kafka: Kafka) -> None:
    partition, offset = kafka.send("jobs.mail", b'{"to": "x"}', key="zeta", headers={"ce_type": "mail.send"})
    job = api.job(f"{kafka.prefix}jobs.mail-{partition}-{offset}")
    assert (job["type"], job["tenant"], job["state"], job["offset"]) == ("mail.send", "zeta", "queued", offset)


def test_a_record_without_any_header_is_a_job_of_the_default_type(api: ApiProcess, kafka: Kafka) -> None:
    partition, offset = kafka.send("jobs.mail", b'{"to": "x"}')
    job = api.job(f"{kafka.prefix}jobs.mail-{partition}-{offset}")
    assert (job["type"], job["tenant"]) == ("mail.send", "default")
    listed = api.http.get("/v1/jobs", params={"type": "mail.send", "limit": 1000}).json()["items"]
    assert job["id"] in [item["id"] for item in listed]


def test_a_record_with_headers_that_cannot_be_read_is_still_a_job(api: ApiProcess, kafka: Kafka) -> None:
    partition, offset = kafka.send("jobs.mail", b"\xff\xfe", headers={"job-attempt": "many"})
    assert api.job(f"{kafka.prefix}jobs.mail-{partition}-{offset}")["state"] == "queued"
    # The worker buries it under the id that it has: the view must not know it under another one.
    kafka.send("jobs.mail", b"{}", headers={"job-attempt": "many", "ce_id": "mine", "ce_type": "mail.send"})
    assert api.job("mine")["type"] == "mail.send"


def test_a_new_queue_of_a_foreign_producer_is_discovered(api: ApiProcess, kafka: Kafka) -> None:
    kafka.send("jobs.brand-new", b"{}", headers={"ce_type": "x", "ce_id": "discovered"})
    assert api.job("discovered")["queue"] == "brand-new"


def test_a_broken_status_record_is_left_out_and_does_not_stop_the_view(api: ApiProcess, kafka: Kafka) -> None:
    kafka.send("jobs.status", b"not avro", key="x")
    kafka.send("jobs.status", b"\x00\x00\x00\x00\x07rest", key="x")
    kafka.send("jobs.status", None, key="x")
    assert api.job(post(api, type="mail.send", args={"to": "x"})["id"])["state"] == "queued"


def finish(kafka: Kafka, receipt: dict[str, Any], **fields: Any) -> None:
    kafka.send_status(
        **{
            "id": receipt["id"],
            "type": receipt["type"],
            "queue": receipt["queue"],
            "tenant": receipt["tenant"],
            "group": "shop",
            "state": "succeeded",
            "rank": 5,
            "sequence": 7,
            "at": 1_700_000_000_000_000,
            "topic": receipt["topic"],
            "partition": receipt["partition"],
            "offset": receipt["offset"],
            "finished_at": 1_700_000_000_000_001,
            "result": b'{"sent": true}',
        }
        | fields
    )


def test_waiting_answers_as_soon_as_the_job_has_ended(api: ApiProcess, kafka: Kafka) -> None:
    receipt = post(api, type="mail.send", args={"to": "x"})
    timer = threading.Timer(0.2, finish, (kafka, receipt))
    timer.start()
    answer = api.http.get(receipt_path(receipt), params={"wait": "30s"})
    timer.join()
    job = answer.json()
    assert (job["state"], job["result"], job["error"]) == ("succeeded", {"sent": True}, None)
    assert job["finished_at"] == "2023-11-14T22:13:20.000001Z"
    etag = answer.headers["etag"]
    assert api.http.get(receipt_path(receipt), headers={"If-None-Match": etag}).status_code == 304


def test_waiting_ends_with_the_job_as_it_is_when_the_time_is_over(api: ApiProcess) -> None:
    receipt = post(api, type="mail.send", args={"to": "x"})
    # The view has to know the job: how long that takes is not what is asked here.
    api.http.get(receipt_path(receipt), params={"min_position": receipt["position"]}).raise_for_status()
    answer = api.http.get(receipt_path(receipt), params={"wait": "0.1"})
    assert (answer.status_code, answer.json()["state"]) == (200, "queued")


def test_waiting_for_a_job_that_never_comes_is_404(api: ApiProcess) -> None:
    assert api.http.get("/v1/jobs/no-such-job", params={"wait": "50ms"}).status_code == 404


def test_a_position_that_the_log_does_not_have_is_503_with_the_lag(api: ApiProcess, kafka: Kafka) -> None:
    at = f"{kafka.prefix}jobs.mail-0-999999"
    answer = api.http.get("/v1/jobs", params={"min_position": at})
    assert answer.status_code == 503
    assert answer.json()["lag"][f"{kafka.prefix}jobs.mail-0"] > 0
    assert answer.headers["retry-after"] == "1"


def test_a_failed_job_shows_its_error(api: ApiProcess, kafka: Kafka) -> None:
    from logqueue_schemas.job_status import StatusError

    receipt = post(api, type="mail.send", args={"to": "x"})
    error = StatusError("NoSuchCustomer", "nobody", "permanent")
    finish(kafka, receipt, state="dead", result=None, error=error)
    api.until(lambda: api.job(receipt["id"])["state"] == "dead", "dead")
    assert api.job(receipt["id"])["error"] == {"type": "NoSuchCustomer", "message": "nobody", "class": "permanent"}


def test_the_run_of_a_shadow_group_is_kept_apart(api: ApiProcess, kafka: Kafka) -> None:
    receipt = post(api, type="mail.send", args={"to": "x"})
    finish(kafka, receipt, shadow=True, group="audit", replay=1)
    path = receipt_path(receipt)
    api.until(lambda: api.http.get(path, params={"group": "audit"}).status_code == 200, "shadow known")
    assert api.http.get(path, params={"group": "audit"}).json()["state"] == "succeeded"
    assert api.job(receipt["id"])["state"] == "queued"
    assert api.http.get("/v1/queues", params={"group": "audit"}).json()["items"][0]["counts"]["succeeded"] == 1
    items = api.http.get("/v1/jobs", params={"group": "audit"}).json()["items"]
    assert [item["id"] for item in items] == [receipt["id"]]


def test_a_delayed_job_is_scheduled(api: ApiProcess) -> None:
    job = api.job(post(api, type="mail.send", args={"to": "x"}, delay="10m", expires_in=3600)["id"])
    assert job["state"] == "scheduled"
    assert job["due_at"] > job["created_at"]
    assert job["expires_at"] > job["due_at"]


def test_a_batch_is_sent_in_order_and_read_back(api: ApiProcess) -> None:
    jobs = [{"type": "push.send", "tenant": f"t{number}", "args": {"n": number}} for number in range(40)]
    answer = api.http.post("/v1/jobs:batch", json={"jobs": jobs})
    assert answer.status_code == 202, answer.text
    document = answer.json()
    assert [item["tenant"] for item in document["items"]] == [job["tenant"] for job in jobs]
    ids: list[str] = []
    cursor = None
    while True:
        query = {"queue": "push", "limit": 7, "min_position": document["min_position"]}
        page = api.http.get("/v1/jobs", params=query | ({"cursor": cursor} if cursor else {})).json()
        ids += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sorted(ids) == sorted(item["id"] for item in document["items"])


def test_a_batch_with_one_bad_job_sends_none(api: ApiProcess, kafka: Kafka) -> None:
    api.job(post(api, type="push.send", args={})["id"])
    before = [kafka.end("jobs.push", partition) for partition in range(16)]
    jobs = [{"type": "push.send"}, {"type": "mail.send", "args": {"to": 1}}]
    answer = api.http.post("/v1/jobs:batch", json={"jobs": jobs})
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == ["jobs.1.args.to"]
    assert [kafka.end("jobs.push", partition) for partition in range(16)] == before


def test_queues_show_counts_by_state_and_what_waits_longest(api: ApiProcess) -> None:
    receipt = post(api, type="mail.send", args={"to": "x"})
    api.job(receipt["id"])
    queues = {item["queue"]: item for item in api.http.get("/v1/queues").json()["items"]}
    mail = queues["mail"]
    listed = api.http.get("/v1/jobs", params={"queue": "mail", "state": "queued", "limit": 1000}).json()["items"]
    assert mail["counts"]["queued"] == len(listed)
    assert mail["oldest_queued_at"] == min(item["created_at"] for item in listed)
    assert mail["default_type"] == "mail.send"
    assert mail["total"] == sum(mail["counts"].values())


def test_events_of_a_job_end_with_the_job(api: ApiProcess, kafka: Kafka) -> None:
    receipt = post(api, type="mail.send", args={"to": "x"})
    api.job(receipt["id"])
    states: list[str] = []
    with api.http.stream("GET", receipt_path(receipt) + "/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                states.append(json.loads(line[6:])["state"])
                if len(states) == 1:
                    finish(kafka, receipt)
    assert (states[0], states[-1]) == ("queued", "succeeded")


def test_the_live_stream_tells_of_changes(api: ApiProcess) -> None:
    with api.http.stream("GET", "/v1/events") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: changes"
        job_id = post_elsewhere(api)
        for line in lines:
            if line.startswith("data: ") and job_id in line:
                break


def post_elsewhere(api: ApiProcess) -> str:
    import httpx

    answer = httpx.post(api.url + "/v1/jobs", json={"type": "mail.send", "args": {"to": "x"}})
    job_id: str = answer.json()["id"]
    return job_id


def test_a_group_shows_lag_and_what_is_unfinished(api: ApiProcess, kafka: Kafka) -> None:
    _, offset = kafka.send("jobs.mail", b"{}", partition=3)
    group = f"{kafka.prefix}shop"
    kafka.commit(group, "jobs.mail", 3, offset)
    document = api.http.get(f"/v1/groups/{group}").json()
    row = next(row for row in document["partitions"] if row["partition"] == 3 and row["topic"].endswith("jobs.mail"))
    assert (row["committed"], row["end"], row["lag"], row["incomplete"]) == (offset, offset + 1, 1, 1)
    assert document["lag"] >= 1
    assert {"mail", "push"} <= set(document["queues"])
    assert group in [item["group"] for item in api.http.get("/v1/groups").json()["items"]]


def test_a_group_that_has_finished_a_queue_has_no_oldest_job_in_it(api: ApiProcess, kafka: Kafka) -> None:
    receipt = post(api, type="mail.send", args={"to": "x"})
    assert api.job(receipt["id"])["state"] == "queued", "of the live workers"
    at, group = (receipt["partition"], receipt["offset"]), f"{kafka.prefix}audit-oldest"
    kafka.commit(group, "jobs.mail", at[0], at[1])
    assert api.http.get(f"/v1/groups/{group}").json()["oldest_queued_at"] is not None
    kafka.commit(group, "jobs.mail", at[0], at[1] + 1)
    document = api.http.get(f"/v1/groups/{group}").json()
    assert (document["incomplete"], document["queues"]) == (0, ["mail"])
    assert (document["oldest_queued_at"], document["oldest_queued_age_s"]) == (None, None)


def test_a_topic_says_which_partitions_hold_records(api: ApiProcess) -> None:
    receipt = post(api, type="mail.send", args={"to": "x"})
    topic = api.http.get(f"/v1/topics/{receipt['topic']}").json()
    assert [item["partition"] for item in topic["partitions"]] == list(range(16))
    held = topic["partitions"][receipt["partition"]]
    assert (held["start"], held["end"]) == (0, receipt["offset"] + 1)
    assert any(item["start"] == item["end"] for item in topic["partitions"])


def test_topics_say_what_they_are_for(api: ApiProcess, kafka: Kafka) -> None:
    topics = {item["topic"]: item for item in api.http.get("/v1/topics").json()["items"]}
    assert topics[f"{kafka.prefix}jobs.mail"]["kind"] == "jobs"
    assert topics[f"{kafka.prefix}jobs.control"]["kind"] == "control"


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/healthz", "/metrics", "/docs-assets/swagger-ui.css"])
def test_every_page_comes_from_this_process(api: ApiProcess, path: str) -> None:
    answer = api.http.get(path)
    assert answer.status_code == 200
    if answer.headers["content-type"].startswith("text/html"):
        assert "https://" not in answer.text
    head = api.http.head(path)
    assert (head.status_code, head.content) == (200, b"")


def test_metrics_count_jobs_by_state_and_requests_by_route(api: ApiProcess) -> None:
    receipt = post(api, type="mail.send", args={"to": "a@b.c"})
    api.http.get(receipt_path(receipt), params={"min_position": receipt["position"]}).raise_for_status()
    text = api.http.get("/metrics").text
    assert 'logqueue_jobs{queue="mail",state="queued"}' in text
    assert 'route="/v1/jobs/{job_id:path}"' in text
    assert "logqueue_view_lag_records" in text
