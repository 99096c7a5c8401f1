"""How many records a second does a real client bring in and take out, by partitions, codec, acks and size?

Each cell is PARTITIONS/CODEC/ACKS/BYTES on a topic of its own in one broker; `--set cells=all` is all 24 of the matrix.
The first one is done twice, and counted the second time: a JVM compiles what runs often.
`client` is confluent-kafka or aiokafka (with its batch calls). Values are different and compress about 2 to 1. With
fsync=1 an ack of acks=all waits for the disk; Apache Kafka is compared as it is run, without, unless `peer_fsync=1`.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

from benchmarks import logs
from benchmarks.clients import CLIENTS, Client, create_topic
from benchmarks.report import Figures, InvalidSetting, Settings
from benchmarks.stack import Watched

SETTINGS: Settings = {
    "cells": "1/none/-1/1024 1/none/1/100 16/lz4/-1/1024",
    "client": "confluent-kafka",
    "megabytes": 300,
    "records": 1_000_000,
    "fsync": 1,
    "peer_fsync": 0,
}
PEERS = ("apache", "tansu")
PARTITIONS, CODECS, ACKS, SIZES = (1, 16), ("none", "lz4", "zstd"), (1, -1), (100, 1024)
DISTINCT_VALUES = 1_000


@dataclass(frozen=True, slots=True)
class Cell:
    """One of the matrix; `acks` as in Kafka, -1 is all."""

    partitions: int
    codec: str
    acks: int
    record_bytes: int

    def __str__(self) -> str:
        return f"{self.partitions}/{self.codec}/{self.acks}/{self.record_bytes}"


def cells_of(text: str) -> list[Cell]:
    """The cells of a setting. Raises InvalidSetting for what is none."""
    if text == "all":
        return [Cell(*each) for each in itertools.product(PARTITIONS, CODECS, ACKS, SIZES)]
    cells = []
    for word in text.split():
        match word.split("/"):
            case [partitions, codec, "1" | "-1" as acks, size] if (
                _is_count(partitions) and _is_count(size) and codec in CODECS
            ):
                cells.append(Cell(int(partitions), codec, int(acks), int(size)))
            case _:
                raise InvalidSetting(f"a cell is PARTITIONS/CODEC/ACKS/BYTES, for example 16/lz4/-1/1024, not {word!r}")
    return cells


def _is_count(text: str) -> bool:
    return text.isdecimal() and int(text) > 0


def run(settings: Settings, engine: str = logs.OURS) -> Figures:
    """Produce the records of a cell, then read them back; at most `records` and about `megabytes`."""
    client = CLIENTS.get(str(settings["client"]))
    if client is None:
        raise InvalidSetting(f"client={settings['client']}: there are {', '.join(CLIENTS)}")
    cells = cells_of(str(settings["cells"]))
    fsync = bool(settings["fsync" if engine == logs.OURS else "peer_fsync"])
    figures: dict[str, float] = {}
    with logs.log(engine, fsync=fsync) as (broker, bootstrap):
        for turn, cell in enumerate([cells[0], *cells]):
            count = min(int(settings["records"]), int(settings["megabytes"]) * 1_000_000 // cell.record_bytes)
            topic = f"{turn}-{cell}".replace("/", "-")
            create_topic(bootstrap, topic, cell.partitions)
            figures |= _measure(broker, bootstrap, client, cell, topic, count)
        return {**figures, "RSS afterwards MiB": broker.rss_mib()}


def _measure(broker: Watched, bootstrap: str, client: Client, cell: Cell, topic: str, count: int) -> Figures:
    values = values_of(cell.record_bytes)
    before = broker.cpu_seconds()
    produced = client.produce(
        bootstrap,
        topic,
        values,
        count=count,
        partitions=cell.partitions,
        codec=cell.codec,
        acks=cell.acks,
    )
    between = broker.cpu_seconds()
    consumed = client.consume(bootstrap, topic, partitions=cell.partitions, count=count)
    after = broker.cpu_seconds()
    megabytes = count * cell.record_bytes / 1e6
    return {
        f"{cell} produce records/s": count / produced,
        f"{cell} produce MB/s": megabytes / produced,
        f"{cell} consume records/s": count / consumed,
        f"{cell} consume MB/s": megabytes / consumed,
        f"{cell} broker CPU us/record in": (between - before) / count * 1e6,
        f"{cell} broker CPU us/record out": (after - between) / count * 1e6,
    }


def values_of(size: int) -> list[bytes]:
    """Different values of one size, in hexadecimal: what they say takes half of it."""
    choice = random.Random(size)
    return [choice.randbytes(size).hex()[:size].encode() for _ in range(DISTINCT_VALUES)]
