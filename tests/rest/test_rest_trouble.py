"""When the log is away, dies or comes back, when the port is taken: a clear answer, and work goes on by itself."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from logqueue_api.rest.limits import ApiLimits
from logqueue_api.rest.server import PortTaken, run_api

from logqueue.jobs.errors import InvalidSetting
from logqueue.jobs.settings import Settings
from tests.engines.apache import free_ports
from tests.rest.conftest import ApiProcess, Kafka

STOP_SECONDS = 20


class Broker:
    """An embedded broker that can be killed and started again on its port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (self._port,) = free_ports(1)
        self.start()

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "logqueue.broker", "--data-dir", str(self._folder)]
        self._process = subprocess.Popen(
            [*command, "--kafka-port", str(self._port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().rstrip().endswith(f":{self._port}")

    def end(self, number: int) -> None:
        self._process.send_signal(number)
        self._process.wait(STOP_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "log")
    yield broker
    broker.end(signal.SIGTERM)


def test_the_api_goes_on_by_itself_after_the_broker_was_killed(broker: Broker, tmp_path: Path) -> None:
    kafka = Kafka(broker.bootstrap, "")
    kafka.publish("mail.send", "mail", {"type": "object"})
    api = ApiProcess(broker.bootstrap, "", tmp_path / "view.db")
    api.wait_ready()
    first = api.http.post("/v1/jobs", json={"type": "mail.send"}).json()
    api.job(first["id"])
    broker.end(signal.SIGKILL)
    api.until(lambda: api.http.get("/readyz").status_code == 503, "unready")
    assert broker.bootstrap in api.http.get("/readyz").json()["detail"]
    assert api.job(first["id"])["state"] == "queued"  # what the view has, it still answers
    broker.start()
    api.wait_ready()
    answer = api.http.post("/v1/jobs", json={"type": "mail.send"})
    assert answer.status_code == 202, answer.text
    assert api.job(answer.json()["id"])["state"] == "queued"
    kafka.send("jobs.mail", b"{}", headers={"ce_id": "foreign", "ce_type": "mail.send"})
    assert api.job("foreign")["state"] == "queued"
    assert api.stop() == 0


def test_a_log_that_is_not_there_is_503_with_its_address(tmp_path: Path) -> None:
    api = ApiProcess("127.0.0.1:1", "", tmp_path / "view.db")
    assert api.http.get("/healthz").status_code == 200
    for path in ("/readyz", "/v1/topics"):
        began = time.monotonic()
        answer = api.http.get(path)
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert "127.0.0.1:1" in answer.json()["detail"]
        assert time.monotonic() - began < 15
    assert api.http.get("/v1/jobs").status_code == 503
    # Whether the type is known cannot be told without the log: not the client's fault.
    assert api.http.post("/v1/jobs", json={"type": "mail.send"}).status_code == 503
    assert api.stop() == 0


def test_who_waits_for_a_job_is_answered_when_the_api_stops(broker: Broker, tmp_path: Path) -> None:
    kafka = Kafka(broker.bootstrap, "")
    kafka.publish("mail.send", "mail", {"type": "object"})
    api = ApiProcess(broker.bootstrap, "", tmp_path / "view.db")
    api.wait_ready()
    job_id = api.http.post("/v1/jobs", json={"type": "mail.send"}).json()["id"]
    api.job(job_id)
    host, port = api.http.base_url.host, api.http.base_url.port or 0
    with socket.create_connection((host, port), timeout=STOP_SECONDS) as waiting:
        waiting.sendall(f"GET /v1/jobs/{job_id}?wait=20s HTTP/1.0\r\n\r\n".encode())
        for _ in range(5):  # rounds of the server's loop: after them the wait has begun
            assert api.http.get("/healthz").status_code == 200
        began = time.monotonic()
        assert api.stop() == 0
        assert time.monotonic() - began < 12, "not the end of the wait"
        with waiting.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0]
    assert b'"state":"queued"' in body
    assert "Traceback" not in (tmp_path / "view.log").read_text()


def test_a_killed_fold_is_started_again(broker: Broker, tmp_path: Path) -> None:
    kafka = Kafka(broker.bootstrap, "")
    kafka.publish("mail.send", "mail", {"type": "object"})
    api = ApiProcess(broker.bootstrap, "", tmp_path / "view.db")
    api.wait_ready()
    children = Path(f"/proc/{api.pid}/task/{api.pid}/children").read_text().split()
    assert len(children) == 1
    os.kill(int(children[0]), signal.SIGKILL)
    answer = api.http.post("/v1/jobs", json={"type": "mail.send"})
    assert api.job(answer.json()["id"])["state"] == "queued"
    assert api.stop() == 0


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"127.0.0.1:{port}: another program listens there"):
            run_api(Settings(), port=port, view_path=tmp_path / "view.db")


def test_a_limit_that_is_none_is_named() -> None:
    assert ApiLimits.load({"max_page": 7, "default_page": 5, "max_wait": "2m"}).max_wait_s == 120
    assert ApiLimits.load({}, {"LOGQUEUE_API_MAX_WAIT": "5"}).max_wait_s == 5
    with pytest.raises(InvalidSetting, match="max_pages"):
        ApiLimits.load({"max_pages": 7})
    with pytest.raises(InvalidSetting, match="LOGQUEUE_API_MAX_PAGE"):
        ApiLimits.load({}, {"LOGQUEUE_API_MAX_PAGE": "many"})
    with pytest.raises(InvalidSetting, match="more than 0"):
        ApiLimits.load({"max_page": 0})
