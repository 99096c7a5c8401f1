"""An API process on each engine, and a foreign Kafka client beside it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient, NewTopic
from logqueue_schemas.avro import content_id
from logqueue_schemas.job_status import SCHEMA, JobStatus, StatusCodec

from logqueue.jobs.topics import JOBS_PARTITIONS
from tests.conftest import Engine

READY_SECONDS = 60
STOP_SECONDS = 20

_SERVE = """
import sys
from pathlib import Path
from logqueue.jobs.settings import Settings
from logqueue_api.rest.limits import ApiLimits
from logqueue_api.rest.server import run_api

bootstrap, prefix, path, limits = sys.argv[1:]
run_api(
    Settings(bootstrap=bootstrap, topic_prefix=prefix),
    port=0,
    view_path=Path(path),
    limits=ApiLimits(**eval(limits)),
    on_ready=lambda url: print(url, flush=True),
)
"""


class ApiProcess:
    """`run_api` in a process of its own."""

    started: ClassVar[list[subprocess.Popen[str]]] = []

    def __init__(self, bootstrap: str, prefix: str, view: Path, **limits: float) -> None:
        self.view = view
        command = [sys.executable, "-c", _SERVE, bootstrap, prefix, str(view), repr(limits)]
        self._log = view.with_suffix(".log").open("ab")
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, text=True)
        self.started.append(self._process)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url, view.with_suffix(".log").read_text()
        self.http = httpx.Client(base_url=self.url, timeout=20)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Until /readyz says 200."""
        self.until(lambda: self.http.get("/readyz").status_code == 200, "ready")

    def until(self, is_so: Callable[[], bool], what: str, *, seconds: float = READY_SECONDS) -> None:
        """Ask until it is so."""
        deadline = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < deadline, (
                f"not {what} in time: {self.view.with_suffix('.log').read_text()[-2000:]}"
            )
            time.sleep(0.02)

    def job(self, job_id: str, **query: Any) -> dict[str, Any]:
        """The job, waited for until the view has it."""
        self.until(lambda: self.http.get(f"/v1/jobs/{job_id}").status_code == 200, f"job {job_id} known")
        document: dict[str, Any] = self.http.get(f"/v1/jobs/{job_id}", params=query).json()
        return document

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.http.close()
        self._process.terminate()
        code = self._process.wait(STOP_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()
        return code


class Kafka:
    """A client that knows nothing of logqueue."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.bootstrap = bootstrap
        self.prefix = prefix
        self._producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 0})
        self._codec = StatusCodec(content_id(SCHEMA))

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic before a record of ours does, with as many partitions as the log's own setting says."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        for made in admin.create_topics([NewTopic(self.prefix + topic, partitions, 1)]).values():
            made.result(timeout=30)

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        partition: int = -1,
    ) -> tuple[int, int]:
        """Partition and offset of a record that the log has confirmed."""
        confirmed: list[Any] = []
        self._producer.produce(
            self.prefix + topic,
            value,
            key=key,
            headers=list((headers or {}).items()),
            partition=partition,
            on_delivery=lambda error, message: confirmed.append(error or message),
        )
        self._producer.flush(20)
        assert confirmed, "no answer"
        assert not isinstance(confirmed[0], KafkaError), confirmed[0]
        return confirmed[0].partition(), confirmed[0].offset()

    def send_status(self, **fields: Any) -> None:
        """A status record as a worker writes it."""
        status = JobStatus(**fields)
        self.send("jobs.status", self._codec.encode(status), key=status.key.decode())

    def publish(self, type_: str, queue: str, schema: dict[str, Any], *, is_default: bool = False) -> None:
        """A job definition as a worker publishes it."""
        value = {
            "app": "shop",
            "group": f"{self.prefix}shop",
            "type": type_,
            "queue": queue,
            "is_default": is_default,
            "version": 1,
            "args_schema": schema,
        }
        self.send("jobs.control", json.dumps(value).encode(), key=f"definition/shop/{type_}")

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        """Commit an offset for a group, as a member of it that reads nothing."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group})
        consumer.commit(offsets=[KafkaPartition(self.prefix + topic, partition, offset)], asynchronous=False)
        consumer.close()

    def end(self, topic: str, partition: int) -> int:
        """The offset after the last record."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "none"})
        _, high = consumer.get_watermark_offsets(KafkaPartition(self.prefix + topic, partition), timeout=20)
        consumer.close()
        return int(high)


MAIL_SCHEMA = {
    "type": "object",
    "properties": {
        "to": {"type": "string"},
        "copies": {"type": "integer"},
        "at": {"type": "string", "format": "date-time"},
    },
    "required": ["to"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", autouse=True)
def no_api_stays() -> Iterator[None]:
    """What tests that failed have left."""
    yield
    while ApiProcess.started:
        process = ApiProcess.started.pop()
        process.kill()
        process.wait(STOP_SECONDS)


@pytest.fixture(scope="module")
def kafka(engine: Engine, request: pytest.FixtureRequest) -> Kafka:
    """A foreign client with a prefix of this module's own."""
    return Kafka(engine.bootstrap, f"r{time.time_ns() % 10**10}.")


@pytest.fixture(scope="module")
def api(engine: Engine, kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """An API that knows two job types: mail.send (default of queue mail) and push.send (queue push)."""
    kafka.create("jobs.mail", JOBS_PARTITIONS)  # whichever test of the module comes first
    kafka.publish("mail.send", "mail", MAIL_SCHEMA, is_default=True)
    kafka.publish("push.send", "push", {"type": "object"})
    process = ApiProcess(
        engine.bootstrap,
        kafka.prefix,
        tmp_path_factory.mktemp("api") / "view.db",
        max_batch_jobs=50,
        max_wait_s=30.0,
        position_wait_s=5.0,
    )
    process.wait_ready()
    yield process
    assert process.stop() == 0
