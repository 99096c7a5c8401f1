"""`logqueue bridge` and `logqueue outbox` as a person meets them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import aio_pika
import pytest
from logqueue_api.cli.main import main

from tests.consumers.conftest import Log, until
from tests.engines.guard import killed_after


def start(log: Log, *words: str) -> subprocess.Popen[str]:
    child = Path(__file__).with_name("relay_child.py")
    environment = {**os.environ, "LOGQUEUE_TOPIC_PREFIX": log.settings.topic_prefix}
    command = [sys.executable, str(child), *words, "--bootstrap", log.settings.bootstrap, "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_the_bridge_says_that_it_is_ready_moves_messages_and_ends_on_sigterm(log: Log, amqp_url: str) -> None:
    async def send() -> None:
        connection = await aio_pika.connect(amqp_url)
        channel = await connection.channel()
        await channel.declare_queue(log.name)
        await channel.default_exchange.publish(aio_pika.Message(b"{}", message_id="m"), log.name)
        await connection.close()

    asyncio.run(send())
    words = ("bridge", "in", amqp_url, "--amqp-queue", log.name, "--queue", "mail", "--type", "mail.send")
    with killed_after(start(log, *words)) as child:
        assert child.stdout is not None
        assert json.loads(child.stdout.readline()) == {"event": "ready", "bridge": "in"}
        asyncio.run(until(lambda: log.read(log.settings.topics.jobs("mail")), lambda found: len(found) == 1))
        child.send_signal(signal.SIGTERM)
        rest, _ = child.communicate(timeout=20)
    assert (child.returncode, json.loads(rest)) == (0, {"event": "stopped", "messages": 1})


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["outbox", "run", "mysql://host/db"], 2, "names no database"),
        (["outbox", "run", "sqlite:///nowhere.db"], 3, "there is no file nowhere.db"),
        (["outbox", "status", "sqlite:///etc/passwd"], 2, "is sqlite:////etc/passwd"),
        (["outbox", "status", "postgresql://nobody@127.0.0.1:1/x"], 3, "does not let us in"),
        (["outbox", "ddl", "--dialect", "sqlite", "--table", "a b"], 2, "not of the form"),
        (["bridge", "in", "amqp://127.0.0.1:1/", "--amqp-queue", "q"], 3, "no AMQP broker answers"),
        (["bridge", "in", "amqp://h/", "--amqp-queue", "q", "--queue", "No"], 2, "Queue name"),
        (["bridge", "events", "jobs.status"], 2, "one of logqueue's own"),
        (["bridge", "out", "amqp://h/", "--exchange", "a/b"], 2, "--name"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    words: list[str],
    code: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    told = capsys.readouterr().err
    assert text in told
    assert "Traceback" not in told
    assert len([line for line in told.splitlines() if line.startswith(("logqueue:", "20"))]) == 1


@pytest.mark.parametrize(
    "words", [["in", "amqp://h/", "--amqp-queue", "q"], ["out", "amqp://h/", "--exchange", "x"]], ids=["in", "out"]
)
def test_without_the_extra_it_says_what_to_install(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aio_pika", None)
    assert main(["bridge", *words]) == 2
    assert capsys.readouterr().err.startswith(
        "logqueue: RabbitMQ needs aio-pika: pip install 'logqueue-kafka[rabbitmq]'"
    )


@pytest.mark.parametrize("dialect", ["postgres", "sqlite"])
def test_the_statements_are_printed_for_a_migration(dialect: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["outbox", "ddl", "--dialect", dialect, "--table", "shop_jobs"]) == 0
    assert "CREATE TABLE shop_jobs (" in capsys.readouterr().out
