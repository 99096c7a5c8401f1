"""Idempotency keys over HTTP: the same key is the same job, other arguments are a conflict."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from logqueue_schemas.job_status import State

from logqueue.jobs.unique import keyed_job_id
from tests.conftest import Engine
from tests.rest.conftest import ApiProcess, Kafka

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]}


@pytest.fixture(scope="module")
def second_api(engine: Engine, kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """Another API process on the same log."""
    process = ApiProcess(engine.bootstrap, kafka.prefix, tmp_path_factory.mktemp("api2") / "view.db")
    process.wait_ready()
    yield process
    assert process.stop() == 0


def post(api: ApiProcess, key: str | None, amount: int, **fields: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    body = {"type": "charge", "queue": "bills", "tenant": "acme", "args": {"amount": amount}, **fields}
    return api.http.post("/v1/jobs", json=body, headers=headers)


def test_a_key_again_is_answered_with_the_job_and_its_result_and_sends_nothing(api: ApiProcess, kafka: Kafka) -> None:
    kafka.publish("charge", "bills", SCHEMA)
    first = post(api, "order-1", 5)
    assert first.status_code == 202
    receipt = first.json()
    assert receipt["id"] == keyed_job_id(tenant="acme", queue="bills", type_="charge", key="order-1")
    again = post(api, "order-1", 5)
    assert again.status_code == 200
    assert again.json()["duplicate"] is True
    assert again.json()["offset"] == receipt["offset"]
    api.job(receipt["id"])
    kafka.send_status(
        id=receipt["id"],
        queue="bills",
        tenant="acme",
        type="charge",
        state=State.SUCCEEDED,
        topic=receipt["topic"],
        partition=receipt["partition"],
        offset=receipt["offset"],
        result=b"10",
        group="shop",
        at=time.time_ns() // 1000,
        attempt=1,
        rank=5,
    )
    api.until(lambda: api.job(receipt["id"])["state"] == "succeeded", "ended")
    job = post(api, "order-1", 5).json()["job"]
    assert (job["state"], job["result"]) == ("succeeded", 10)
    topic = receipt["topic"].removeprefix(kafka.prefix)
    assert kafka.end(topic, receipt["partition"]) == receipt["offset"] + 1


def test_other_arguments_are_a_conflict_that_names_them(api: ApiProcess, kafka: Kafka) -> None:
    kafka.publish("charge", "bills", SCHEMA)
    first = post(api, "order-2", 5).json()
    answer = post(api, "order-2", 6)
    assert answer.status_code == 409
    problem = answer.json()
    assert problem["type"] == "urn:logqueue:idempotency-conflict"
    assert problem["id"] == first["id"]
    assert [fault["field"] for fault in problem["errors"]] == ["idempotency_key", "args.amount"]


def test_another_process_knows_the_key_from_the_log(api: ApiProcess, kafka: Kafka, second_api: ApiProcess) -> None:
    kafka.publish("charge", "bills", SCHEMA)
    first = post(api, "order-3", 5).json()
    second_api.job(first["id"])
    assert post(second_api, "order-3", 5).json()["offset"] == first["offset"]
    answer = post(second_api, "order-3", 7)
    assert answer.status_code == 409
    assert [fault["field"] for fault in answer.json()["errors"]] == ["idempotency_key", "args.amount"]


def test_many_requests_at_once_send_one_job(api: ApiProcess, kafka: Kafka) -> None:
    kafka.publish("charge", "bills", SCHEMA)
    assert post(api, None, 1).status_code == 202
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(api, "order-4", 5), range(16)))
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [202]
    assert len({answer.json()["offset"] for answer in answers}) == 1


def test_keys_in_a_batch_are_known_too(api: ApiProcess, kafka: Kafka) -> None:
    kafka.publish("charge", "bills", SCHEMA)
    first = post(api, "order-5", 5).json()
    job = {"type": "charge", "queue": "bills", "tenant": "acme"}
    body = {"jobs": [{**job, "args": {"amount": 5}, "idempotency_key": "order-5"}, {**job, "args": {"amount": 9}}]}
    items = api.http.post("/v1/jobs:batch", json=body).json()["items"]
    assert (items[0]["id"], items[0]["duplicate"]) == (first["id"], True)
    assert "duplicate" not in items[1]
    body["jobs"][0]["args"] = {"amount": 6}
    answer = api.http.post("/v1/jobs:batch", json=body)
    assert answer.status_code == 409
    assert answer.json()["errors"][0]["field"] == "jobs.0.idempotency_key"


def test_a_key_that_differs_from_the_header_or_is_no_text_is_refused(api: ApiProcess, kafka: Kafka) -> None:
    kafka.publish("charge", "bills", SCHEMA)
    answer = post(api, "one", 5, idempotency_key="two")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "idempotency_key"
    answer = post(api, "x" * 300, 5)
    assert answer.status_code == 400
    answer = post(api, "key", 5, id="mine")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "id"
