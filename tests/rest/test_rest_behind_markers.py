"""The view knows that it has read a topic to its end where the last thing there is a transaction's marker."""

from __future__ import annotations

from pathlib import Path

from confluent_kafka import Producer

from logqueue.jobs.topics import TopicNames
from tests.conftest import Engine
from tests.rest.conftest import ApiProcess


def test_an_unknown_type_is_told_at_once_behind_a_marker(engine: Engine, prefix: str, tmp_path: Path) -> None:
    api = ApiProcess(engine.bootstrap, f"{prefix}.", tmp_path / "view.db")
    api.wait_ready()
    producer = Producer({"bootstrap.servers": engine.bootstrap, "transactional.id": prefix})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(TopicNames(f"{prefix}.").control, None, key=b"cancel/nobody")
    producer.commit_transaction(30)
    answer = api.http.post("/v1/jobs", json={"type": "nosuch", "tenant": "t", "args": {}})
    assert answer.status_code == 400, answer.text
    assert api.stop() == 0
