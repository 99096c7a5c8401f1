"""Looks for anomalies in a history, as Jepsen's Kafka checker does (https://jepsen.io/analyses/redpanda-21.10.1). Pure.

lost                 an acknowledged record is not in the final log, or not at its offset
duplicate            one record is in the log twice
reordered            two records of one producer stand in a partition in another order than they were sent
phantom              a record that nobody sent
inconsistent offset  one offset showed different records
torn transaction     a part of one shows, or an aborted one does, or a committed one does not
aborted read         a reader of committed records was given one that was aborted
non-monotonic poll   within an assignment a partition went back, or gave the same record again
skipped              within an assignment a poll passed over a record
unread               a group never was given a record that is there
commit went back     a group is behind an offset that it had acknowledged
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from tests.soak.history import (
    READ_COMMITTED,
    READ_UNCOMMITTED,
    Ack,
    Commit,
    CommitRead,
    Event,
    FinalLog,
    Poll,
    Send,
    TransactionEnd,
)

MAX_SHOWN = 20
"""Anomalies that a report lists."""


class Anomaly(NamedTuple):
    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


class Checker:
    """One history, sorted by what each check needs. `expects_all_read` asks that every group saw everything."""

    def __init__(self, events: Iterable[Event], *, expects_all_read: bool = True) -> None:
        self.sends: dict[str, Send] = {}
        self.acks: list[Ack] = []
        self.ends: dict[str, bool | None] = {}
        self.polls: list[Poll] = []
        self.commits: dict[tuple[str, int], Commit] = {}
        self.commit_reads: list[CommitRead] = []
        self.logs: dict[str, dict[int, dict[int, str]]] = {READ_COMMITTED: {}, READ_UNCOMMITTED: {}}
        self._doubles: list[Anomaly] = []
        self._expects_all_read = expects_all_read
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case Send():
                assert event.value not in self.sends, "a client sends each value once"
                self.sends[event.value] = event
            case Ack():
                self.acks.append(event)
            case TransactionEnd():
                self.ends[event.transaction] = event.committed
            case Poll():
                self.polls.append(event)
            case Commit():
                self.commits[event.client, event.number] = event
            case CommitRead():
                self.commit_reads.append(event)
            case FinalLog():
                self.logs[event.isolation][event.partition] = dict(event.records)
                offsets = [offset for offset, _ in event.records]
                if offsets != sorted(set(offsets)):
                    self._doubles.append(Anomaly("inconsistent offset", f"partition {event.partition} goes back"))

    @property
    def counts(self) -> dict[str, int]:
        """How much there was to look at."""
        return {
            "sent": len(self.sends),
            "acked": len(self.acks),
            "transactions": len(self.ends),
            "polled": sum(len(poll.records) for poll in self.polls),
            "commits": sum(commit.ok is True for commit in self.commits.values()),
            "commit reads": len(self.commit_reads),
        }

    def anomalies(self) -> list[Anomaly]:
        """Everything that is wrong."""
        checks = (
            self._lost,
            self._duplicates,
            self._reordered,
            self._phantoms,
            self._inconsistent_offsets,
            self._torn_transactions,
            self._aborted_reads,
            self._polls,
            self._unread,
            self._commits_back,
        )
        return [*self._doubles, *(anomaly for check in checks for anomaly in check())]

    def _committed(self, send: Send) -> bool | None:
        """Whether a record has to show to readers of committed records; None if nobody can tell."""
        return True if send.transaction is None else self.ends.get(send.transaction)

    def _lost(self) -> Iterator[Anomaly]:
        for ack in self.acks:
            stored = self.logs[READ_UNCOMMITTED].get(ack.partition, {}).get(ack.offset)
            if stored != ack.value:
                yield Anomaly(
                    "lost", f"{ack.value} was acknowledged at {ack.partition}/{ack.offset}, where {stored} stands"
                )

    def _duplicates(self) -> Iterator[Anomaly]:
        times = Counter(v for log in self.logs[READ_UNCOMMITTED].values() for v in log.values())
        for value, count in times.items():
            if count > 1:
                yield Anomaly("duplicate", f"{value} is stored {count} times")

    def _reordered(self) -> Iterator[Anomaly]:
        for partition, log in self.logs[READ_UNCOMMITTED].items():
            last: dict[str, Send] = {}
            for _, value in sorted(log.items()):
                send = self.sends.get(value)
                if send is None:
                    continue
                before = last.get(send.client)
                if before is not None and before.number > send.number:
                    yield Anomaly("reordered", f"partition {partition}: {before.value} stands before {value}")
                last[send.client] = send

    def _phantoms(self) -> Iterator[Anomaly]:
        for partition, log in self.logs[READ_UNCOMMITTED].items():
            for offset, value in log.items():
                send = self.sends.get(value)
                if send is None or send.partition != partition:
                    yield Anomaly("phantom", f"{value} at {partition}/{offset} was not sent there")
        for isolation in self.logs[READ_COMMITTED].items():
            partition, log = isolation
            everything = self.logs[READ_UNCOMMITTED].get(partition, {})
            for offset, value in log.items():
                if everything.get(offset) != value:
                    yield Anomaly("inconsistent offset", f"only committed readers see {value} at {partition}/{offset}")

    def _inconsistent_offsets(self) -> Iterator[Anomaly]:
        for poll in self.polls:
            for partition, offset, value in poll.records:
                stored = self.logs[READ_UNCOMMITTED].get(partition, {}).get(offset)
                if stored != value:
                    yield Anomaly(
                        "inconsistent offset", f"{poll.client} was given {value} at {partition}/{offset}: now {stored}"
                    )

    def _torn_transactions(self) -> Iterator[Anomaly]:
        shown = {value for log in self.logs[READ_COMMITTED].values() for value in log.values()}
        stored = {value for log in self.logs[READ_UNCOMMITTED].values() for value in log.values()}
        members: dict[str, list[str]] = defaultdict(list)
        acked = {ack.value for ack in self.acks}
        for send in self.sends.values():
            is_whole = self.ends.get(send.transaction or "") is True  # then every record was acknowledged
            if send.transaction is not None and (is_whole or send.value in stored or send.value in acked):
                members[send.transaction].append(send.value)
            elif send.transaction is None and send.value in stored and send.value not in shown:
                yield Anomaly("torn transaction", f"{send.value} is in no transaction and hidden")
        for transaction, values in members.items():
            missing = [value for value in values if value not in shown]
            outcome = self.ends.get(transaction)
            if outcome is True and missing:
                yield Anomaly("torn transaction", f"{transaction} was committed without {missing[0]}")
            elif outcome is False and len(missing) < len(values):
                yield Anomaly("torn transaction", f"{transaction} was aborted and shows")
            elif outcome is None and 0 < len(missing) < len(values):
                yield Anomaly("torn transaction", f"{transaction} shows {len(values) - len(missing)} of {len(values)}")

    def _aborted_reads(self) -> Iterator[Anomaly]:
        shown = {value for log in self.logs[READ_COMMITTED].values() for value in log.values()}
        for poll in self.polls:
            if poll.isolation == READ_COMMITTED:
                for partition, offset, value in poll.records:
                    if value not in shown:
                        yield Anomaly("aborted read", f"{poll.client} was given {value} at {partition}/{offset}")

    def _polls(self) -> Iterator[Anomaly]:
        """Within one assignment a partition is read from some offset on without going back or leaving out."""
        offsets: dict[tuple[str, str, int, int], list[int]] = defaultdict(list)
        for poll in sorted(self.polls, key=lambda poll: poll.at):
            for partition, offset, _ in poll.records:
                offsets[poll.client, poll.isolation, poll.assignment, partition].append(offset)
        readable = {
            (isolation, partition): sorted(log)
            for isolation, logs in self.logs.items()
            for partition, log in logs.items()
        }
        places = {key: {offset: at for at, offset in enumerate(log)} for key, log in readable.items()}
        for (client, isolation, _, partition), read in offsets.items():
            place = places.get((isolation, partition), {})
            for before, after in pairwise(read):
                if after <= before:
                    yield Anomaly("non-monotonic poll", f"{client}, partition {partition}: {after} after {before}")
                elif place.get(after, 0) - place.get(before, 0) > 1:
                    yield Anomaly("skipped", f"{client}, partition {partition}: from {before} to {after}")

    def _unread(self) -> Iterator[Anomaly]:
        if not self._expects_all_read:
            return
        given: dict[tuple[str, str], set[tuple[int, int]]] = defaultdict(set)
        for poll in self.polls:
            given[poll.group, poll.isolation].update((partition, offset) for partition, offset, _ in poll.records)
        for (group, isolation), places in given.items():
            for partition, log in self.logs[isolation].items():
                missing = [offset for offset in log if (partition, offset) not in places]
                if missing:
                    yield Anomaly("unread", f"{group} was not given {len(missing)} of {partition}, {missing[0]} first")

    def _commits_back(self) -> Iterator[Anomaly]:
        """A read shows a commit that was not certainly overwritten before the read began."""
        by_place: dict[tuple[str, int], list[tuple[float, float, int, bool | None]]] = defaultdict(list)
        for commit in self.commits.values():
            for partition, offset in commit.offsets:
                by_place[commit.group, partition].append((commit.started, commit.at, offset, commit.ok))
        for read in self.commit_reads:
            for partition, offset in read.offsets:
                commits = by_place[read.group, partition]
                settled = [started for started, at, _, ok in commits if ok and at < read.started]
                newest = max(settled, default=None)  # begin of the newest commit that was answered before the read
                candidates = [(at, ok) for _, at, each, ok in commits if each == offset and ok is not False]
                if offset < 0:
                    is_fine = newest is None
                else:
                    is_fine = any(newest is None or ok is None or at >= newest for at, ok in candidates)
                if not is_fine:
                    yield Anomaly("commit went back", f"{read.group} is at {partition}/{offset} after a later commit")


def report(anomalies: list[Anomaly]) -> str:
    """A short text: how many of each kind, and the first few."""
    kinds = Counter(anomaly.kind for anomaly in anomalies)
    head = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return "\n  ".join([head, *(str(anomaly) for anomaly in anomalies[:MAX_SHOWN])])
