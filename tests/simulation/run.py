"""One run of the simulation: clients, a node and a network in a world made from a seed, and the judgement over it.

The reference model is the checker of histories (`tests.soak.checker`), with two rules that only a simulation can see:
no partition has two owners in one generation, and when the weather is fine again every group reaches the end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

from logqueue.protocol.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from logqueue.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from tests.crash.client import FetchedLog, batches_in
from tests.crash.recording import RecordingFileSystem
from tests.simulation.consumers import CLASSIC, MODERN, ClassicMember, ModernMember
from tests.simulation.network import Actor, Ask, Network, Script, Weather
from tests.simulation.node import Node
from tests.simulation.producers import PARTITIONS, TOPIC, Producer
from tests.simulation.world import World
from tests.soak.checker import Checker, report
from tests.soak.history import READ_COMMITTED, READ_UNCOMMITTED, Event, FinalLog, Poll

TROUBLE_SECONDS = (20.0, 60.0)
"""Simulated time with faults."""
CALM_SECONDS = 120.0
"""Simulated time within which all must be well again: every timeout is far below it."""
DOWN_SECONDS = (0.0, 3.0)
PRODUCERS = ("idempotent", "old transactions", "new transactions", "new transactions")


class Anomaly(AssertionError):
    """A rule was broken; the text says which, and the seed plays it again."""


@dataclass(slots=True)
class Seen:
    """How much happened in a run."""

    crashes: int
    events: int
    polled: int


class Simulation:
    """Everything of one run."""

    def __init__(self, folder: Path, seed: int, disk: type[RecordingFileSystem] = RecordingFileSystem) -> None:
        self._seed = seed
        self._world = World(seed)
        self._random = self._world.random
        self._node = Node(self._world, folder, disk)
        self._network = Network(self._world, self._node, Weather())
        self._history: list[Event] = []
        self._owners: dict[tuple[str, int], dict[int, str]] = defaultdict(dict)
        self._cast: list[tuple[Callable[[], Actor], Actor]] = []
        self._numbers = count(1)
        self._topic_id = b""
        self._is_calm = False

    def run(self) -> Seen:
        """Raises Anomaly."""
        try:
            self._create_topic()
            self._start_clients()
            until = self._world.now + self._random.uniform(*TROUBLE_SECONDS)
            self._plan_trouble(until)
            self._world.run(until)
            self._calm_down()
            return self._judge()
        except AssertionError as error:
            raise Anomaly(f"seed {self._seed}: {error}") from error
        finally:
            self._node.close()

    # The cast

    def _create_topic(self) -> None:
        def script() -> Script:
            config = CreatableTopicConfig(name="internal.segment.bytes", value="2000")
            topic = CreatableTopic(name=TOPIC, num_partitions=PARTITIONS, replication_factor=1, configs=[config])
            answer = yield Ask(7, CreateTopicsRequest(topics=[topic]))
            self._topic_id = answer.topics[0].topic_id

        Actor(self._world, self._network, "admin", script())
        self._world.run(self._world.now + 1.0)
        assert self._topic_id

    def _start_clients(self) -> None:
        for kind in PRODUCERS:
            self._add(self._producer_of(kind, f"{kind.split()[0]}-{next(self._numbers)}"))
        for _ in range(2):
            self._add(lambda: self._consumer(ClassicMember))
            self._add(lambda: self._consumer(ModernMember, topic_id=self._topic_id))

    def _add(self, make: Callable[[], Actor]) -> None:
        self._cast.append((make, make()))

    def _producer_of(self, kind: str, role: str) -> Callable[[], Actor]:
        def make() -> Actor:
            name = f"{role}.{next(self._numbers)}"
            producer = Producer(
                name,
                Random(self._random.random()),
                self._world.clock,
                self._history,
                transactional_id=None if kind == "idempotent" else role,
                is_new_version=kind == "new transactions",
            )
            return Actor(self._world, self._network, name, producer.script())

        return make

    def _consumer(self, kind: type[ClassicMember] | type[ModernMember], **options: bytes) -> Actor:
        name = f"{kind.group}.{next(self._numbers)}"
        member = kind(name, Random(self._random.random()), self._world.clock, self._history, self._claim, **options)
        return Actor(self._world, self._network, name, member.script())

    def _claim(self, member: str, generation: int, partitions: set[int]) -> None:
        """Within a generation of a classic group every partition has one owner."""
        group = member.split(".")[0]
        if group != CLASSIC:
            return
        owners = self._owners[group, generation]
        for partition in partitions:
            owner = owners.setdefault(partition, member)
            assert owner == member, f"generation {generation}: partition {partition} belongs to {owner} and {member}"

    # Trouble

    def _plan_trouble(self, until: float) -> None:
        when = self._world.now
        while True:
            when += self._random.expovariate(0.25)
            if when > until:
                return
            self._world.at(when, self._random.choice((self._crash, self._crash, self._storm, self._kill_client)))

    def _crash(self) -> None:
        if self._node.broker is None:
            return
        self._node.crash()
        self._world.after(self._random.uniform(*DOWN_SECONDS), self._restart)

    def _restart(self) -> None:
        if self._node.broker is None:
            self._node.start()

    def _storm(self) -> None:
        if self._is_calm:
            return
        self._network.weather = Weather(lost=self._random.uniform(0, 0.4), late=self._random.uniform(0, 0.3))
        self._world.after(self._random.uniform(0.5, 8.0), self._clear_up)

    def _clear_up(self) -> None:
        self._network.weather = Weather()

    def _kill_client(self) -> None:
        at = self._random.randrange(len(self._cast))
        make, actor = self._cast[at]
        actor.kill()
        self._cast[at] = (make, make())

    # The end

    def _calm_down(self) -> None:
        """Producers end, the weather is fine; groups have to come to the end of the log."""
        self._is_calm = True
        self._clear_up()
        self._restart()
        for _, actor in self._cast[: len(PRODUCERS)]:
            actor.kill()
        self._world.run(self._world.now + CALM_SECONDS)

    def _judge(self) -> Seen:
        for partition in range(PARTITIONS):
            for isolation in (READ_UNCOMMITTED, READ_COMMITTED):
                self._history.append(self._final_log(partition, isolation))
        anomalies = Checker(self._history).anomalies()
        assert not anomalies, report(anomalies)
        groups = {event.group for event in self._history if isinstance(event, Poll)}
        assert groups in ({CLASSIC, MODERN}, set()), f"only {groups} were given anything"
        polled = sum(len(event.records) for event in self._history if isinstance(event, Poll))
        return Seen(self._node.crashes, len(self._history), polled)

    def _final_log(self, partition: int, isolation: str) -> FinalLog:
        found: list[tuple[int, str]] = []

        def script() -> Script:
            wanted = FetchPartition(partition=partition, fetch_offset=0, partition_max_bytes=1 << 26)
            request = FetchRequest(
                max_bytes=1 << 26,
                isolation_level=int(isolation == READ_COMMITTED),
                topics=[FetchTopic(topic=TOPIC, partitions=[wanted])],
            )
            batches, aborted, offset = [], set(), 0
            while True:
                wanted.fetch_offset = offset
                answer = (yield Ask(11, request)).responses[0].partitions[0]
                assert not answer.error_code
                stable, end = answer.last_stable_offset, answer.high_watermark
                assert stable == end, f"partition {partition}: a transaction stays open at {stable} of {end}"
                fetched = list(batches_in(bytes(answer.records or b"")))
                aborted |= {(each.producer_id, each.first_offset) for each in answer.aborted_transactions or ()}
                if not fetched:
                    break
                batches += fetched
                offset = fetched[-1].header.last_offset + 1
            log = FetchedLog(0, end, stable, batches, sorted(aborted))
            records = log.committed() if isolation == READ_COMMITTED else log.data()
            found.extend((record.offset, (record.value or b"").decode()) for record in records)

        reader = Actor(self._world, self._network, "reader", script())
        self._world.run(self._world.now + 5.0)
        assert not reader.is_alive, f"partition {partition} cannot be read to its end"
        return FinalLog(partition=partition, isolation=isolation, records=tuple(found))
