"""kill -9 under load: every acknowledged record is there once, at its acknowledged offset."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError as ClientError
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

PARTITIONS = 4
ROUNDS = 3
ACKED_PER_ROUND = 300
TIMEOUT_SECONDS = 60


class BrokerProcess:
    """A broker on one port and folder, killed and started again."""

    def __init__(self, data_dir: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "logqueue.broker", "--data-dir", str(data_dir)]
        self._command += ["--kafka-port", str(self.port), "--override", f"num.partitions={PARTITIONS}"]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert "ready" in self._process.stdout.readline()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate(timeout=TIMEOUT_SECONDS)

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=TIMEOUT_SECONDS)
        assert self._process.returncode == 0


class Acks:
    """What producers were promised: value -> (partition, offset)."""

    def __init__(self) -> None:
        self.by_value: dict[bytes, tuple[int, int]] = {}
        self._grown = threading.Condition()

    def add(self, value: bytes, partition: int, offset: int) -> None:
        with self._grown:
            assert value not in self.by_value, "acknowledged twice"
            self.by_value[value] = (partition, offset)
            self._grown.notify_all()

    def wait_for(self, count: int) -> None:
        with self._grown:
            assert self._grown.wait_for(lambda: len(self.by_value) >= count, TIMEOUT_SECONDS)


def produce_with_confluent(bootstrap: str, acks: Acks, stopping: threading.Event) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 1, "log_level": 0})

    def delivered(error: object, message: Message) -> None:
        if error is None:
            value, partition, offset = message.value(), message.partition(), message.offset()
            assert value is not None and partition is not None and offset is not None
            acks.add(value, partition, offset)

    number = 0
    while not stopping.is_set():
        number += 1
        try:
            producer.produce("t", b"confluent-%d" % number, key=b"%d" % number, on_delivery=delivered)
        except BufferError:
            pass
        producer.poll(0.001)
    producer.flush(TIMEOUT_SECONDS)


async def produce_with_aiokafka(bootstrap: str, acks: Acks, stopping: threading.Event) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, retry_backoff_ms=20)
    await producer.start()

    async def send(worker: int) -> None:
        number = 0
        while not stopping.is_set():
            number += 1
            value = b"aiokafka-%d-%d" % (worker, number)
            try:
                sent = await producer.send_and_wait("t", value, key=b"%d" % number)
            except ClientError:
                continue  # not acknowledged: nothing is promised
            acks.add(value, sent.partition, sent.offset)

    try:
        await asyncio.gather(*(send(worker) for worker in range(8)))
    finally:
        await producer.stop()


def read_all(bootstrap: str) -> dict[tuple[int, int], bytes]:
    """Every record of the topic by (partition, offset)."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.partition.eof": False})
    found: dict[tuple[int, int], bytes] = {}
    ends = {}
    for partition in range(PARTITIONS):
        ends[partition] = consumer.get_watermark_offsets(TopicPartition("t", partition), timeout=TIMEOUT_SECONDS)[1]
    consumer.assign([TopicPartition("t", partition, 0) for partition in range(PARTITIONS)])
    while len(found) < sum(ends.values()):
        message = consumer.poll(TIMEOUT_SECONDS)
        assert message is not None, f"only {len(found)} of {sum(ends.values())} records came"
        if message.error() is not None:
            raise KafkaException(message.error())
        partition, offset, value = message.partition(), message.offset(), message.value()
        assert partition is not None and offset is not None and value is not None
        found[partition, offset] = value
    consumer.close()
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_every_acknowledged_record_is_there_once_at_its_offset(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path)
    acks, stopping = Acks(), threading.Event()
    producers = [
        threading.Thread(target=produce_with_confluent, args=(broker.bootstrap, acks, stopping)),
        threading.Thread(target=lambda: asyncio.run(produce_with_aiokafka(broker.bootstrap, acks, stopping))),
    ]
    for thread in producers:
        thread.start()
    try:
        for _ in range(ROUNDS):
            acks.wait_for(len(acks.by_value) + ACKED_PER_ROUND)
            broker.kill()
            broker.start()
        acks.wait_for(len(acks.by_value) + ACKED_PER_ROUND)
    finally:
        stopping.set()
        for thread in producers:
            thread.join(TIMEOUT_SECONDS)
    stored = read_all(broker.bootstrap)
    broker.stop()
    assert {value: place for value, place in acks.by_value.items() if stored.get(place) != value} == {}
    times = Counter(stored.values())
    assert [value for value in acks.by_value if times[value] != 1] == []
