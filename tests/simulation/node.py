"""The real broker in a simulated world: its handlers, coordinators and logs, without sockets and without real time.

A crash is a power cut: the next incarnation starts on an image of the disk that may have lost everything that was not
synced, or any part of it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from math import inf
from pathlib import Path
from typing import Any, cast

from logqueue.broker.broker import Broker
from logqueue.broker.deadlines import Deadlines
from logqueue.broker.network.session import Session, Slot
from logqueue.broker.partitions.gathering import Gathering
from logqueue.broker.partitions.group_commit import GroupCommit
from logqueue.broker.partitions.topics import Topics
from logqueue.broker.settings.features import Features
from logqueue.config import BrokerConfig
from logqueue.errors import KafkaError
from logqueue.protocol.api import ApiKey
from logqueue.protocol.frames import (
    RequestHeader,
    read_request,
    read_request_header,
    read_response,
    write_request,
    write_response,
)
from logqueue.protocol.schema import Message
from logqueue.protocol.wire import FileSlice
from logqueue.storage import Environment
from logqueue.storage.journal import SyncJournal
from logqueue.storage.log_directory import LogDirectory
from tests.crash.disk_states import Disk, write_image
from tests.crash.recording import RecordingFileSystem
from tests.simulation.world import Loop, World

SETTINGS = {
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "2",
    "transaction.state.log.num.partitions": "2",
    "group.initial.rebalance.delay.ms": "500",
    "group.min.session.timeout.ms": "1000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
}
DISK_SECONDS = (0.0, 0.05)
JOURNAL_BYTES = 2000
"""Little, so that the two files take turns."""
Answered = Callable[[Message], None]


def at_once(work: Callable[[], None]) -> bool:
    """The background, where the seed alone decides."""
    work()
    return True


class Commit(GroupCommit):
    """Group commit whose thread is waited for, and whose report comes when the world says so."""

    def __init__(
        self, world: World, loop: Loop, deadlines: Deadlines, journal: SyncJournal, *, after_round: Callable[[], None]
    ) -> None:
        # One thread, and rounds that do not depend on how long the real disk took: the seed alone decides.
        super().__init__(
            loop.as_loop,
            deadlines,
            journal,
            after_round=after_round,
            gathering=Gathering(worthwhile_seconds=inf),
            is_steady=False,
            threads=1,
        )
        self._world = world
        self._simulated = loop
        self._has_work = False

    def on_durable(self, callback: Callable[[KafkaError | None], None]) -> None:
        self._has_work = True
        super().on_durable(callback)

    def settle(self, *args: Any) -> bool:
        self._has_work = True
        return super().settle(*args)

    def start_round(self, events: int = 0) -> None:
        before = self._simulated.has_report
        super().start_round(events)
        if not before and not self.is_idle:
            self._simulated.hear_thread(self._world.random.uniform(*DISK_SECONDS))


@dataclass
class Peer:
    """The far end of a request."""

    peer_host: str = "127.0.0.1"


class Place(Slot):
    """A request that waits for its answer, as handlers see it."""

    def __init__(self, header: RequestHeader, answered: Answered) -> None:
        super().__init__(cast(Session, Peer()), header)
        self._answered = answered

    def fill(self, segments: list[Any]) -> None:
        """The encoded answer; it is decoded as a client would."""
        data = b"".join(_bytes_of(segment) for segment in segments)
        if data:
            self._answered(read_response(self.header.api_key, self.header.api_version, memoryview(data)[4:])[1])


class SimulatedBroker(Broker):
    """A broker whose requests come as messages; nothing listens and nothing runs in the background."""

    def __init__(self, world: World, config: BrokerConfig, environment: Environment) -> None:
        super().__init__(config, clock=world.clock, environment=environment)
        self.simulated_loop = Loop(world)
        self.loop = self.simulated_loop.as_loop
        self._read_dynamic()
        self._directory = LogDirectory.open(
            config.data_dir, clock=world.clock, defaults=self.log_defaults, environment=environment
        )
        self.features = Features(environment.fs, config.data_dir)
        self.deadlines = Deadlines(self.loop, after_wake=self.end_turn)
        journal = self._directory.journal
        self.commit = Commit(world, self.simulated_loop, self.deadlines, journal, after_round=self.end_turn)
        self.topics = Topics(self._directory, config, self.log_defaults)
        self._load_coordinators()

    def serve(self, header: RequestHeader, message: Message, answered: Answered) -> None:
        """Serve one request through the codec and its real handler."""
        frame = memoryview(bytearray().join(bytes(s) for s in write_request(header, message)))[4:]  # type: ignore[arg-type]
        _, position = read_request_header(frame)
        request = read_request(header.api_key, header.api_version, frame, position)
        place = Place(header, answered)
        handler = import_module(f"logqueue.broker.handlers.{ApiKey(header.api_key).name.lower()}").handle
        response = handler(self, request, place)
        if response is not None:
            place.fill(write_response(*header[:3], response))
        self.end_turn()

    def checkpoint(self) -> None:
        assert self._directory is not None
        self._directory.checkpoint()

    def die(self) -> None:
        """What is left of a process that was killed: nothing that could still write."""
        self.simulated_loop.die()
        self.commit.close()


def _bytes_of(segment: Any) -> bytes:
    if isinstance(segment, FileSlice):
        return os.pread(segment.fd, segment.size, segment.position)
    return bytes(segment)


class Node:
    """One machine: brokers come and go on its disk."""

    def __init__(self, world: World, folder: Path, disk: type[RecordingFileSystem]) -> None:
        self._world = world
        self._folder = folder
        self._incarnations = count(1)
        self._new_disk = disk
        self._fs = disk()
        self._disk: Disk | None = None
        self.broker: SimulatedBroker | None = None
        self.crashes = 0
        self._data = folder / "0"
        self._data.mkdir(parents=True)
        self.start()

    def start(self) -> None:
        config = BrokerConfig.from_properties({**SETTINGS, "log.dir": str(self._data)})
        environment = Environment(fs=self._fs, max_open_files=8, journal_bytes=JOURNAL_BYTES, in_background=at_once)
        self.broker = SimulatedBroker(self._world, config, environment)

    def crash(self) -> None:
        """The power goes. What was synced is there afterwards, and of the rest what the dice leave."""
        assert self.broker is not None
        self.crashes += 1
        self.broker.die()
        self.broker = None
        disk = self._disk or Disk(self._data)
        for entry in self._fs.journal:
            disk.apply(entry)
        image = disk.random_state(self._world.random).image()
        self._fs.close_all()
        shutil.rmtree(self._data)
        self._data = write_image(image, self._folder / f"{next(self._incarnations)}")
        self._disk = Disk.of(image, self._data)
        self._fs = self._new_disk()

    def serve(self, header: RequestHeader, message: Message, answered: Answered) -> None:
        """Serve a request if there is a broker. One that ends the connection has no answer."""
        if self.broker is None:
            return
        try:
            self.broker.serve(header, message, answered)
        except KafkaError:
            pass

    def close(self) -> None:
        if self.broker is not None:
            self.broker.die()
        self._fs.close_all()
