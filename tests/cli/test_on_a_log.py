"""Commands against a running log: topics, groups, a worker's life, dead letters, replays."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from logqueue_api.cli.main import main

from tests.conftest import Engine

COMMAND = [sys.executable, "-m", "logqueue_api.cli.main"]
SECONDS = 60
APP = """
from logqueue import App, Retry

app = App("{name}")
app.queue("sums", default_type="sum", partitions=2)


@app.job("sum", queue="sums", retry=Retry(attempts=2, first="10ms"))
async def add(*, a: int, b: int = 2) -> dict:
    if a < 0:
        raise ValueError("no negative numbers here")
    return {{"sum": a + b}}
"""


class Shell:
    """A shell in a folder with an app, its environment set to one engine and prefix."""

    def __init__(self, folder: Path, *, bootstrap: str, name: str) -> None:
        self.folder = folder
        self.bootstrap = bootstrap
        self.name = name
        self.prefix = f"{name}."
        (folder / "shop.py").write_text(APP.format(name=name))
        plain = {key: value for key, value in os.environ.items() if not key.startswith("LOGQUEUE_")}
        self.environment = plain | {"LOGQUEUE_BOOTSTRAP": bootstrap, "LOGQUEUE_TOPIC_PREFIX": self.prefix}

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *words],
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def json(self, *words: str) -> dict[str, Any]:
        done = self.run(*words, "--json")
        assert done.returncode in (0, 1) and done.stdout, done.stderr
        value: dict[str, Any] = json.loads(done.stdout)
        return value

    @contextmanager
    def worker(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            [*COMMAND, "worker", "shop.py", "--json", *options],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["event"] == "ready"
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def produce(self, topic: str, values: Sequence[bytes | None], *, partition: int | None = None) -> None:
        async def send() -> None:
            producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks="all")
            await producer.start()
            try:
                for value in values:
                    await producer.send_and_wait(topic, value, key=b"acme", partition=partition)
            finally:
                await producer.stop()

        asyncio.run(send())

    def fill(self, topic: str, partition: int, count: int) -> None:
        """Records of one partition, in few batches."""

        async def send() -> None:
            async with AIOKafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=20) as producer:
                for _ in range(count):
                    await producer.send(topic, b"{}", partition=partition)
                await producer.flush()

        asyncio.run(send())

    def commit(self, topic: str, value: bytes) -> None:
        """A record of a transaction."""

        async def send() -> None:
            producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, transactional_id=f"{self.name}-tail")
            async with producer, producer.transaction():
                await producer.send_and_wait(topic, value, partition=0)

        asyncio.run(send())

    def create(self, topic: str, partitions: int) -> None:
        async def create() -> None:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
            await admin.start()
            try:
                await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs={"retention.ms": "-1"})])
            finally:
                await admin.close()

        asyncio.run(create())

    def done(self, count: int) -> None:
        """Wait until the group has finished `count` records of its job topic: statuses are what the view reads."""
        topic = f"{self.prefix}jobs.status"
        seen: set[str] = set()
        process = subprocess.Popen(
            [*COMMAND, "topic", "tail", topic, "-f", "--from", "0", "--json"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            record = json.loads(line)
            seen.add(record["key"])
            if len(seen) >= count:
                break
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=SECONDS)
        assert process.returncode == 130


@pytest.fixture
def shell(tmp_path: Path, engine: Engine, prefix: str) -> Shell:
    return Shell(tmp_path, bootstrap=engine.bootstrap, name=prefix)


def test_topics_are_listed_described_and_read(shell: Shell) -> None:
    topic = f"{shell.prefix}jobs.emails"
    shell.create(topic, 2)
    shell.produce(topic, [b'{"n": 0}', b"text", b"\xff\xfe", None], partition=0)
    shell.produce(topic, [b'{"n": 4}'], partition=1)

    items = {item["topic"]: item for item in shell.json("topic", "ls")["items"]}
    assert items[topic] == {"topic": topic, "partitions": 2, "offsets": 5, "kind": "jobs"}
    described = shell.json("topic", "describe", topic)
    assert [(p["start_offset"], p["end_offset"]) for p in described["partitions"]] == [(0, 4), (0, 1)]
    assert described["configs"]["retention.ms"] == "-1"

    def tail(*options: str) -> list[dict[str, Any]]:
        done = shell.run("topic", "tail", topic, "--json", *options)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    assert [r["value"] for r in tail("--partitions", "0")] == [{"n": 0}, "text", {"base64": "//4="}, None]
    assert [(r["partition"], r["offset"]) for r in tail("-n", "1")] == [(1, 0)]
    assert [r["offset"] for r in tail("--from", "2", "--partitions", "0")] == [2, 3]
    assert [r["offset"] for r in tail("--from", "2", "--partitions", "0", "-n", "1")] == [2]
    assert len(tail("--from", "1h")) == 5
    assert tail("--from", "2100-01-01") == []
    assert {r["key"] for r in tail()} == {"acme"}

    assert shell.run("topic", "tail", topic, "--partitions", "7").returncode == 2
    missing = shell.run("topic", "describe", topic + "x")
    assert (missing.returncode, f"did you mean {topic}" in missing.stderr) == (4, True)
    assert shell.run("group", "describe", f"{shell.name}-nobody").returncode == 4


def test_the_first_records_of_a_long_topic_are_told_without_reading_all_of_it(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    topic, read, getmany = f"{shell.prefix}jobs.long", Counter[int](), AIOKafkaConsumer.getmany

    async def counting(self: AIOKafkaConsumer, *places: Any, **options: Any) -> Any:
        batches = await getmany(self, *places, **options)
        read.update({place.partition: len(records) for place, records in batches.items()})
        return batches

    shell.create(topic, 2)
    shell.fill(topic, 0, 3_500)
    shell.fill(topic, 1, 2)
    monkeypatch.setattr(AIOKafkaConsumer, "getmany", counting)
    words = ["topic", "tail", topic, "--from", "0", "-n", "3", "--json", "--bootstrap", shell.bootstrap]
    assert main(words) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(record["partition"], record["offset"]) for record in told] == [(0, 0), (0, 1), (0, 2)]
    assert read[0] <= 1_000 and read[1] == 2


def test_what_is_followed_from_the_start_is_told_before_the_end_is_reached(shell: Shell) -> None:
    topic = f"{shell.prefix}jobs.marked"
    shell.create(topic, 1)
    shell.commit(topic, b"1")  # behind it is a marker, which no consumer is given
    process = subprocess.Popen(
        [*COMMAND, "topic", "tail", topic, "-f", "--from", "0", "--idle", "10m", "--json"],
        cwd=shell.folder,
        env=shell.environment,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], SECONDS)[0], "nothing was told"
        assert json.loads(process.stdout.readline())["value"] == 1
    finally:
        process.kill()
        process.communicate()


def test_a_worker_runs_jobs_and_what_failed_can_be_replayed(shell: Shell) -> None:
    topic = f"{shell.prefix}jobs.sums"
    with shell.worker("-c", "10") as process:
        shell.produce(topic, [b'{"a": 1}', b'{"a": -1}', b"no json", b'{"a": 3}'])
        shell.done(4)
        group = shell.json("group", "describe", shell.name)
        assert len(group["members"]) == 1
        assert shell.name in {item["group"] for item in shell.json("group", "ls")["items"]}
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=SECONDS)
        stopped = json.loads(output.splitlines()[-1])
        assert process.returncode == 0
        assert (stopped["event"], stopped["succeeded"], stopped["dead"]) == ("stopped", 2, 2)
    assert shell.json("group", "describe", shell.name)["lag"] == 0

    letters = shell.json("dlq", "ls", "sums")["items"]
    assert {letter["error"]["type"] for letter in letters} == {"ValueError", "Undecodable"}
    [count] = [q for q in shell.json("dlq", "ls")["items"] if q["group"] == shell.name]
    assert (count["open"], count["letters"]) == (2, 2) and count["offsets"] > 2, "markers are no letters"
    [failed] = shell.json("dlq", "ls", "sums", "--error", "ValueError")["items"]
    [shown] = shell.json("dlq", "show", "sums", failed["id"])["items"]
    assert (shown["value"], shown["attempt"]) == ({"a": -1}, 2)

    assert shell.run("dlq", "replay", "sums").returncode == 2, "which ones must be said"
    assert shell.json("dlq", "replay", "sums", "--all", "--dry-run")["matched"] == 2
    assert shell.json("dlq", "replay", "sums", failed["id"])["replayed"] == 1
    assert [letter["is_open"] for letter in shell.json("dlq", "ls", "sums", "--open")["items"]] == [True]
    assert shell.json("dlq", "discard", "sums", "--all", "--dry-run", "--by", "ann")["matched"] == 1
    assert shell.json("dlq", "discard", "sums", "--all", "--by", "ann")["discarded"] == 1
    assert shell.json("dlq", "ls", "sums", "--open")["items"] == []
    [count] = [q for q in shell.json("dlq", "ls")["items"] if q["group"] == shell.name]
    assert (count["open"], count["letters"]) == (0, 2)
    assert {letter["status"] for letter in shell.json("dlq", "ls", "sums")["items"]} == {"replayed", "discarded"}
    edit = ("dlq", "replay", "sums", failed["id"])
    closed = shell.run(*edit)
    assert closed.returncode == 8 and "was replayed by" in closed.stderr and "--again" in closed.stderr
    assert shell.run("dlq", "replay", "sums", "--all", "--again").returncode == 2, "only what is named"
    assert shell.run(*edit, "--args", "[1]").returncode == 2
    edit += ("--again",)
    wrong = shell.run(*edit, "--args", '{"b": "four"}')
    assert wrong.returncode == 2 and "args.a: missing" in wrong.stderr and "args.b" in wrong.stderr, wrong.stderr
    unknown = shell.run(*edit, "--as-type", "summ")
    assert unknown.returncode == 2 and "known are sum" in unknown.stderr
    assert shell.json(*edit, "--args", '{"a": 4}', "--rate", "50", "--by", "ann")["replayed"] == 1
    assert shell.run("dlq", "replay", "sums", "--all", "--rate", "-1").returncode == 2
    assert shell.run("dlq", "show", "sums", "no-such-id").returncode == 4
    assert shell.run("dlq", "ls", "no-such-queue").returncode == 4

    words = ("replay", topic, "shop.py", "--from", "0", "--group", f"{shell.name}-audit")
    trial = shell.json(*words, "--dry-run")
    assert trial["records"] == 4 and "handlers run for real" in trial["warning"]
    done = shell.run(*words, "--json")
    assert json.loads(done.stderr.splitlines()[0])["warning"] == trial["warning"], "told before it starts"
    assert done.returncode == 1, "two of the four fail again"
    summary = json.loads(done.stdout)
    assert (summary["records"], summary["succeeded"], summary["dead"]) == (4, 2, 2)
    again = shell.json(*words)
    assert (again["resumed"], again["succeeded"]) == (4, 0), "a finished replay has nothing left to do"
    assert again["warning"] == trial["warning"]
    assert shell.run(*words).stderr.startswith("warning: handlers run for real: only what they do through ctx.effect")


def test_bad_words_for_worker_and_replay_are_named(shell: Shell) -> None:
    assert shell.run("worker", "nowhere.py").returncode == 7
    unknown = shell.run("worker", "shop.py", "-q", "nope")
    assert (unknown.returncode, "has no queue 'nope'; its queues are: sums" in unknown.stderr) == (2, True)
    live = shell.run("replay", "jobs.sums", "shop.py", "--from", "0", "--group", shell.name)
    assert (live.returncode, "is the live group" in live.stderr) == (2, True)
    tried = shell.run("replay", "jobs.sums", "shop.py", "--from", "0", "--group", shell.name, "--dry-run")
    assert (tried.returncode, "is the live group" in tried.stderr) == (2, True), "a dry run tells it too"
    odd = shell.run("replay", "jobs.sums", "shop.py", "--from", "0", "--group", "not one")
    assert (odd.returncode, "group: Name 'not one'" in odd.stderr) == (2, True)
    foreign = shell.run("replay", "__consumer_offsets", "shop.py", "--from", "0", "--group", "g")
    assert (foreign.returncode, "is no topic of jobs" in foreign.stderr) == (2, True)
    missing = shell.run("replay", "jobs.sums", "shop.py", "--from", "0", "--group", f"{shell.name}-g")
    assert (missing.returncode, "does not exist" in missing.stderr) == (4, True)


@pytest.mark.parametrize(
    "words", [("worker", "shop.py"), ("replay", "jobs.sums", "shop.py", "--from", "0", "--group", "g")]
)
def test_a_log_that_is_away_is_named_within_the_bound(tmp_path: Path, words: tuple[str, ...]) -> None:
    shell = Shell(tmp_path, bootstrap="127.0.0.1:1", name="shop")
    done = shell.run(*words, LOGQUEUE_CONNECT_TIMEOUT="1s")
    assert done.returncode == 3, done.stderr
    *before, told = done.stderr.splitlines()
    assert told.startswith("logqueue: No Kafka broker answers at 127.0.0.1:1 ")
    assert all("starting" in line for line in before), "the Kafka client's own lines are debugging"
    assert "AddressFamily" not in done.stderr
