"""The judgement over transactions after a restart: whole or not there, as promised, and producers never go back."""

from __future__ import annotations

import time

from logqueue.ids import TopicPartition
from tests.crash import promises as p
from tests.crash.client import READ_COMMITTED, Client, Refused
from tests.crash.transacting import OFFSETS_GROUP, patiently

SETTLE_SECONDS = 10.0


class TransactionVerdict:
    """Fences every transactional id, as a new producer does, so that all is decided; then looks at what shows."""

    def __init__(self, client: Client, promises: p.Promises) -> None:
        self._client = client
        self._promises = promises
        self._topics = [topic for topic in promises.topics.values() if topic.is_certain]

    def check(self) -> None:
        if not self._promises.transactions:
            return
        for transactional_id in sorted({each.transactional_id for each in self._promises.transactions.values()}):
            self._fence(transactional_id)
        shown = self._shown()
        committed = {number: self._is_committed(number, shown) for number in self._promises.transactions}
        self._check_offsets(committed)

    def _fence(self, transactional_id: str) -> None:
        producer_id, epoch = patiently(lambda: self._client.init_producer(transactional_id))
        before = self._promises.epochs.get(transactional_id)
        if before is None:
            return
        if producer_id == before[0]:
            assert epoch > before[1], f"{transactional_id}: epoch {epoch} was given after {before[1]}"
        else:
            assert producer_id not in self._promises.producer_ids, f"producer id {producer_id} was given twice"

    def _shown(self) -> set[bytes | None]:
        """All values that readers of committed records see, once nothing is open any more."""
        shown: set[bytes | None] = set()
        deadline = time.monotonic() + SETTLE_SECONDS
        for topic in self._topics:
            for index in range(min(topic.partitions)):
                partition = TopicPartition(topic.name, index)
                while True:
                    log = self._client.read(partition, isolation=READ_COMMITTED)
                    if log.last_stable_offset == log.high_watermark:
                        break
                    assert time.monotonic() < deadline, f"{partition}: a transaction stays open"
                    time.sleep(0.01)
                shown.update(record.value for record in log.committed())
        return shown

    def _is_committed(self, number: int, shown: set[bytes | None]) -> bool | None:
        """What became of a transaction; None if none of its records can tell."""
        promise = self._promises.transactions[number]
        values: set[bytes] = set()
        for topic in self._topics:
            if topic.compacted:
                continue
            for log in topic.logs.values():
                kept = log.sent[: log.safe]
                if log.start_at_most:
                    continue  # records may have been deleted
                values |= {v for s in kept if s.transaction == number for v in s.values if v not in log.refused}
        missing = values - shown
        where = f"transaction {number} of {promise.transactional_id}"
        if promise.is_ended and promise.outcome:
            assert not missing, f"{where} was committed and {len(missing)} of {len(values)} records do not show"
            return True
        if promise.outcome is not True:
            assert missing == values, f"{where} was not committed and {len(values) - len(missing)} records show"
            return False
        assert not missing or missing == values, f"{where} is torn: {len(missing)} of {len(values)} records do not show"
        return not missing if values else None

    def _check_offsets(self, committed: dict[int, bool | None]) -> None:
        for (group, partition), promise in self._promises.offsets.items():
            if group != OFFSETS_GROUP or not any(topic.name == partition.topic for topic in self._topics):
                continue
            allowed: set[int] = set()
            for commit in reversed(promise.commits):
                outcome = committed[commit.transaction]
                if outcome is not False:
                    allowed.add(commit.offset)
                if outcome is True:
                    break
            else:
                allowed.add(-1)
            found = self._settled_offset(group, partition, allowed)
            assert found in allowed, f"{group} is at {found} in {partition}; its transactions say {allowed}"

    def _settled_offset(self, group: str, partition: TopicPartition, allowed: set[int]) -> int:
        """The committed offset, once the marker of its transaction is there."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                found = self._client.committed(group, partition)
            except Refused:
                found = -2
            if found in allowed or time.monotonic() > deadline:
                return found
            time.sleep(0.01)
