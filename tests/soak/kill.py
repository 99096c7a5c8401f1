"""Real clients on a broker that is killed, paused, cut off and restarted; their history is checked in the end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from types import MappingProxyType

from logqueue.ids import TopicPartition
from logqueue.protocol.messages.describe_groups import DescribeGroupsRequest
from tests.crash.client import Client, Refused
from tests.soak.broker_process import BrokerProcess
from tests.soak.checker import Anomaly, Checker, report
from tests.soak.clients.exactly_once import output_of
from tests.soak.history import READ_COMMITTED, READ_UNCOMMITTED, Event, FinalLog, read_history

TOPIC = "soak"
PARTITIONS = 4
SETTLE_SECONDS = 60.0
"""Time that groups and open transactions have, after the last trouble, until everything is read and decided."""
CLIENT_STOP_SECONDS = 90
QUIET_SECONDS = (0.3, 2.0)
"""Between two troubles."""
SLOW_SECONDS = 60.0
"""How much longer than asked a run goes on where its clients have not come far: machines may be slow."""

CLIENTS = (
    "confluent-producer",
    "aiokafka-producer",
    "confluent-transactions",
    "aiokafka-transactions",
    "aiokafka-classic",
    "confluent-classic",
    "confluent-classic",
    "confluent-consumer",
    "confluent-consumer",
    "exactly-once",
    "exactly-once",
)
CONSUMERS = ("exactly-once", "aiokafka-classic", "confluent-classic", "confluent-consumer")


class SoakFailure(AssertionError):
    """Something was found; the text says what."""


@dataclass
class ClientProcess:
    """One place in the cast: whoever dies is followed by another with the same role."""

    kind: str
    role: str
    process: subprocess.Popen[bytes]


@dataclass
class Outcome:
    """What a run did and saw."""

    troubles: Counter[str] = field(default_factory=Counter)
    counts: dict[str, int] = field(default_factory=dict)
    anomalies: list[Anomaly] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{count} {what}" for what, count in (*self.troubles.items(), *self.counts.items())]
        return ", ".join(parts)


class KillRun:
    """One run in `folder`, which keeps the history, the broker's log and its data."""

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        clients: tuple[str, ...] = CLIENTS,
        troubles: tuple[str, ...] = (),
        at_least: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """`at_least` is what there has to be to look at before the trouble ends, by the names of `Checker.counts`."""
        self.folder = folder
        self.outcome = Outcome()
        self._random = Random(seed)
        self._kinds = clients
        self._troubles = troubles or tuple(TROUBLES)
        self._at_least = at_least
        self._numbers = count(1)
        self._cast: list[ClientProcess] = []
        folder.mkdir(parents=True, exist_ok=True)
        self.broker = BrokerProcess(folder)

    def run(self, seconds: float) -> Outcome:
        """Raises SoakFailure for whatever is found."""
        try:
            self.broker.start()
            with Client(self.broker.bootstrap) as client:
                for topic in (TOPIC, output_of(TOPIC)):
                    client.create_topic(topic, PARTITIONS, {"internal.segment.bytes": "65536"})
            self._cast = [self._started(kind, self._role(kind, at)) for at, kind in enumerate(self._kinds)]
            self._make_trouble(time.monotonic() + seconds)
            self._finish()
        except AssertionError as error:
            raise SoakFailure(f"{error}") from error
        finally:
            self._close()
        return self.outcome

    # Clients

    def _role(self, kind: str, at: int) -> str:
        """Consumers of one kind are one group; a transactional id belongs to one producer."""
        return kind if kind in CONSUMERS else f"{kind}-{at}"

    def _started(self, kind: str, role: str) -> ClientProcess:
        name = f"{kind}.{next(self._numbers)}"
        command = [sys.executable, "-m", "tests.soak.clients", kind, "--name", name, "--role", role]
        command += ["--bootstrap", self.broker.bootstrap, "--topic", TOPIC, "--partitions", str(PARTITIONS)]
        command += ["--history", str(self.folder / f"{name}.history"), "--seed", str(self._random.randrange(1 << 30))]
        with (self.folder / "clients.log").open("ab") as log:
            return ClientProcess(kind, role, subprocess.Popen(command, stderr=log))

    def _stop_clients(self, which: Callable[[ClientProcess], bool]) -> None:
        chosen = [each for each in self._cast if which(each)]
        for each in chosen:
            each.process.send_signal(signal.SIGTERM)
        for each in chosen:
            try:
                code = each.process.wait(CLIENT_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                raise SoakFailure(f"{each.kind} did not end within {CLIENT_STOP_SECONDS} s") from None
            # A client that has just begun may not be able yet to end otherwise.
            log = (self.folder / "clients.log").read_text()[-1500:]
            assert code in (0, -signal.SIGTERM), f"{each.kind} ended with {code}:\n{log}"
            self._cast.remove(each)

    # Trouble

    def _make_trouble(self, until: float) -> None:
        while time.monotonic() < until or (time.monotonic() < until + SLOW_SECONDS and not self._has_enough()):
            time.sleep(self._random.uniform(*QUIET_SECONDS))
            trouble = self._random.choice(self._troubles)
            self.outcome.troubles[trouble] += 1
            TROUBLES[trouble](self)
            self._replace_the_dead()

    def _has_enough(self) -> bool:
        counts = Checker(self._history()).counts
        return all(counts[name] >= least for name, least in self._at_least.items())

    def _history(self) -> Iterator[Event]:
        return read_history(sorted(self.folder.glob("*.history")))

    def kill_broker(self) -> None:
        self.broker.kill()
        if self._random.random() < 0.5:
            time.sleep(self._random.uniform(0, 1.0))
        self.broker.start()

    def kill_twice(self) -> None:
        """Killed again while it recovers, or just after."""
        self.broker.kill()
        self.broker.start()
        time.sleep(self._random.uniform(0, 0.2))
        self.broker.kill()
        self.broker.start()

    def restart_broker(self) -> None:
        self.broker.stop()
        self.broker.start()

    def pause_broker(self) -> None:
        self.broker.pause()
        time.sleep(self._random.uniform(0.2, 3.0))
        self.broker.resume()

    def cut_connections(self) -> None:
        self.broker.proxy.cut(self._random, self._random.choice((0.3, 1.0)))

    def stall_connections(self) -> None:
        self.broker.proxy.stall(True)
        time.sleep(self._random.uniform(0.2, 2.0))
        self.broker.proxy.stall(False)

    def kill_client(self) -> None:
        process = self._random.choice(self._cast).process
        process.kill()
        process.wait()

    def pause_client(self) -> None:
        process = self._random.choice(self._cast).process
        process.send_signal(signal.SIGSTOP)
        time.sleep(self._random.uniform(0.5, 3.0))
        process.send_signal(signal.SIGCONT)

    def _replace_the_dead(self) -> None:
        for at, each in enumerate(self._cast):
            code = each.process.poll()
            if code is None:
                continue
            log = (self.folder / "clients.log").read_text()[-1500:]
            assert code == -signal.SIGKILL, f"{each.kind} ended by itself with {code}:\n{log}"
            self._cast[at] = self._started(each.kind, each.role)

    # The end

    def _finish(self) -> None:
        self._replace_the_dead()
        self._stop_clients(lambda each: each.kind not in CONSUMERS)
        deadline = time.monotonic() + SETTLE_SECONDS
        with Client(self.broker.bootstrap) as client:
            self._wait_for_transactions(client, deadline)
            ends = {partition: client.offset(TopicPartition(TOPIC, partition), -1) for partition in range(PARTITIONS)}
            self._wait_for_groups(client, ends, deadline)
            has_outputs = any(each.kind == "exactly-once" for each in self._cast)
            self._stop_clients(lambda each: True)
            logs = [
                self._final_log(client, partition, isolation)
                for partition in range(PARTITIONS)
                for isolation in (READ_COMMITTED, READ_UNCOMMITTED)
            ]
            if has_outputs:
                self._check_outputs(client, deadline, logs)
        self.broker.stop()
        self._check(logs)

    def _check_outputs(self, client: Client, deadline: float, logs: list[FinalLog]) -> None:
        """Every committed record has led to exactly one committed record of the other topic."""
        inputs = {
            f"{log.partition}/{offset}" for log in logs if log.isolation == READ_COMMITTED for offset, _ in log.records
        }
        self._wait_for_transactions(client, deadline, topic=output_of(TOPIC))
        outputs: Counter[str] = Counter()
        for partition in range(PARTITIONS):
            log = client.read(TopicPartition(output_of(TOPIC), partition), isolation=1)
            outputs.update((record.value or b"").decode() for record in log.committed())
        twice = [place for place, times in outputs.items() if times > 1]
        assert not twice, f"{len(twice)} records led to more than one, {twice[0]} first"
        assert outputs.keys() >= inputs, f"{len(inputs - outputs.keys())} of {len(inputs)} records led to none"
        assert outputs.keys() <= inputs, f"{min(outputs.keys() - inputs)} led to a record and is not there"
        self.outcome.counts["exactly once"] = len(outputs)

    def _wait_for_transactions(self, client: Client, deadline: float, topic: str = TOPIC) -> None:
        """Whatever transaction is open is aborted by its time limit."""
        for partition in range(PARTITIONS):
            place = TopicPartition(topic, partition)
            while True:
                answer = client.fetch(place, client.offset(place, -1), isolation=1)
                if answer.last_stable_offset == answer.high_watermark:
                    break
                assert time.monotonic() < deadline, (
                    f"a transaction in {place} stays open at {answer.last_stable_offset}"
                )
                time.sleep(0.1)

    def _wait_for_groups(self, client: Client, ends: dict[int, int], deadline: float) -> None:
        """Every group comes to the end of the log: nobody is stuck."""
        groups = {each.role for each in self._cast}
        last_data: dict[int, int] = {}
        for partition in ends:
            # Only this isolation tells what was aborted, which most groups are never given.
            records = client.read(TopicPartition(TOPIC, partition), isolation=1).committed()
            last_data[partition] = max((record.offset for record in records), default=-1)
        while True:
            behind = [
                (group, partition, found)
                for group in groups
                for partition in ends
                if (found := self._committed(client, group, partition)) <= last_data[partition]
            ]
            if not behind:
                return
            if time.monotonic() > deadline:
                states = {group: self._state(client, group) for group in groups}
                raise AssertionError(
                    f"stuck: (group, partition, offset) {behind}, the ends are {ends}, groups {states}"
                )
            time.sleep(0.2)

    def _state(self, client: Client, group: str) -> str:
        """What the broker says of a classic group and its members (of another: that it is none)."""
        (told,) = client.wire.call(5, DescribeGroupsRequest(groups=[group])).groups
        return f"{told.group_state} {sorted(member.client_id for member in told.members)}"

    def _committed(self, client: Client, group: str, partition: int) -> int:
        try:
            return client.committed_offset(group, TopicPartition(TOPIC, partition))
        except Refused:
            return -1

    def _final_log(self, client: Client, partition: int, isolation: str) -> FinalLog:
        log = client.read(TopicPartition(TOPIC, partition), isolation=1 if isolation == READ_COMMITTED else 0)
        records = log.committed() if isolation == READ_COMMITTED else log.data()
        return FinalLog(
            partition=partition,
            isolation=isolation,
            records=tuple((record.offset, (record.value or b"").decode()) for record in records),
        )

    def _check(self, logs: list[FinalLog]) -> None:
        checker = Checker([*self._history(), *logs])
        self.outcome.counts |= {**checker.counts, "broker starts": self.broker.starts}
        self.outcome.anomalies = checker.anomalies()
        assert not self.outcome.anomalies, report(self.outcome.anomalies)
        traceback = self.broker.tracebacks()
        assert not traceback, f"the broker's log has a traceback:\n{traceback}"

    def _close(self) -> None:
        for each in self._cast:
            each.process.kill()
            each.process.wait()
        self.broker.close()


TROUBLES: dict[str, Callable[[KillRun], None]] = {
    "broker kills": KillRun.kill_broker,
    "broker double kills": KillRun.kill_twice,
    "clean restarts": KillRun.restart_broker,
    "broker pauses": KillRun.pause_broker,
    "cuts": KillRun.cut_connections,
    "stalls": KillRun.stall_connections,
    "client kills": KillRun.kill_client,
    "client pauses": KillRun.pause_client,
}
