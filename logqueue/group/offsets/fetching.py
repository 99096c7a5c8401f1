"""OffsetFetch: the durable offsets of groups. An unknown group or partition stands at -1, which is no error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from logqueue.coordination.effects import Caller, Now
from logqueue.coordination.topics import Topics
from logqueue.errors import ErrorCode, KafkaError
from logqueue.group.classic.group import ClassicGroup
from logqueue.group.classic.states import DEAD
from logqueue.group.ledger import Ledger
from logqueue.group.offsets.committed import Offsets
from logqueue.group.records import CommittedOffset
from logqueue.ids import TopicPartition
from logqueue.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)
from logqueue.protocol.messages.offset_fetch import OffsetFetchResponsePartition as OldPartition
from logqueue.protocol.messages.offset_fetch import OffsetFetchResponsePartitions as NewPartition
from logqueue.protocol.wire import ZERO_UUID

if TYPE_CHECKING:
    from logqueue.group.consumer.group import ConsumerGroup

SEVERAL_GROUPS_SINCE = 8
TOPIC_IDS_SINCE = 10

P = TypeVar("P", OldPartition, NewPartition)

_NOWHERE = CommittedOffset(offset=-1, leader_epoch=-1, metadata="", commit_time_ms=-1)


class Fetching:
    """Answers OffsetFetch."""

    def __init__(
        self,
        groups: dict[str, ClassicGroup],
        consumer_groups: Mapping[str, ConsumerGroup],
        *,
        offsets: Offsets,
        ledger: Ledger,
        topics: Topics,
    ) -> None:
        self._groups = groups
        self._consumer_groups = consumer_groups
        self._offsets = offsets
        self._ledger = ledger
        self._topics = topics

    def fetch(self, request: OffsetFetchRequest, *, caller: Caller, now: Now) -> None:
        """Answer from what is durable; `require_stable` (KIP-447) first waits for commits under way.

        It tells UNSTABLE_OFFSET_COMMIT where a transaction that is open has an offset too.
        """
        group_ids = [request.group_id]
        if caller.version >= SEVERAL_GROUPS_SINCE:
            group_ids = [group.group_id for group in request.groups]
        busy = [g for g in dict.fromkeys(group_ids) if request.require_stable and self._ledger.is_busy(g)]
        self._answer_after(busy, request, caller, now)

    def _answer_after(self, busy: list[str], request: OffsetFetchRequest, caller: Caller, now: Now) -> None:
        if not busy:
            self._ledger.reply(caller, self._response(request, caller))
            return
        first, rest = busy[0], busy[1:]
        self._ledger.when_idle(first, now, lambda later: self._answer_after(rest, request, caller, later))

    def _response(self, request: OffsetFetchRequest, caller: Caller) -> OffsetFetchResponse:
        if caller.version >= SEVERAL_GROUPS_SINCE:
            stable = request.require_stable
            return OffsetFetchResponse(groups=[self._group(group, caller, stable=stable) for group in request.groups])
        group_id = request.group_id
        asked = [(topic.name, topic.partition_indexes) for topic in request.topics or ()]
        answers = [
            OffsetFetchResponseTopic(
                name=name,
                partitions=self._positions(OldPartition, group_id, name, partitions, stable=request.require_stable),
            )
            for name, partitions in (self._all_of(group_id).items() if request.topics is None else asked)
        ]
        return OffsetFetchResponse(topics=answers)

    def _group(self, group: OffsetFetchRequestGroup, caller: Caller, *, stable: bool) -> OffsetFetchResponseGroup:
        by_id = caller.version >= TOPIC_IDS_SINCE
        answer = OffsetFetchResponseGroup(group_id=group.group_id)
        consumer_group = self._consumer_groups.get(group.group_id)
        if consumer_group is not None:
            try:
                consumer_group.check_fetch(member_id=group.member_id, epoch=group.member_epoch)
            except KafkaError as error:
                answer.error_code = error.code
                return answer
        if group.topics is None:
            for name, partitions in self._all_of(group.group_id).items():
                topic_id = self._topics.id_of(name) if by_id else ZERO_UUID
                if topic_id is not None:  # offsets of a topic that is gone have no name that v10 could say
                    answer.topics.append(self._topic(group.group_id, name, topic_id, partitions, stable=stable))
            return answer
        for topic in group.topics:
            found = self._topics.name_of(topic.topic_id) if by_id else topic.name
            answer.topics.append(
                self._topic(group.group_id, found, topic.topic_id, topic.partition_indexes, stable=stable)
            )
        return answer

    def _topic(
        self, group_id: str, name: str | None, topic_id: bytes, partitions: Sequence[int], *, stable: bool
    ) -> OffsetFetchResponseTopics:
        answer = OffsetFetchResponseTopics(name=name or "", topic_id=topic_id)
        answer.partitions = self._positions(NewPartition, group_id, name or "", partitions, stable=stable)
        if name is None:
            for partition in answer.partitions:
                partition.error_code = ErrorCode.UNKNOWN_TOPIC_ID
        return answer

    def _all_of(self, group_id: str) -> dict[str, list[int]]:
        """Every topic and partition the group has an offset of."""
        found: dict[str, list[int]] = {}
        if self._is_readable(group_id):
            for topic, partition in self._offsets.of_group(group_id):
                found.setdefault(topic, []).append(partition)
        return found

    def _is_readable(self, group_id: str) -> bool:
        consumer_group = self._consumer_groups.get(group_id)
        if consumer_group is not None:
            return not consumer_group.is_dead
        group = self._groups.get(group_id)
        return group is not None and group.state is not DEAD

    def _positions(
        self, kind: type[P], group_id: str, topic: str, partitions: Sequence[int], *, stable: bool
    ) -> list[P]:
        is_readable = self._is_readable(group_id)
        may_be_unstable = stable and self._offsets.has_pending(group_id)
        answers: list[P] = []
        for partition in partitions:
            if may_be_unstable and self._offsets.is_pending(group_id, TopicPartition(topic, partition)):
                answers.append(_unstable(kind, partition))
                continue
            stored = self._offsets.get(group_id, TopicPartition(topic, partition)) if is_readable else None
            committed = stored or _NOWHERE
            answers.append(
                kind(
                    partition_index=partition,
                    committed_offset=committed.offset,
                    committed_leader_epoch=committed.leader_epoch,
                    metadata=committed.metadata,
                )
            )
        return answers


def _unstable(kind: type[P], partition: int) -> P:
    return kind(
        partition_index=partition,
        committed_offset=_NOWHERE.offset,
        committed_leader_epoch=_NOWHERE.leader_epoch,
        metadata=_NOWHERE.metadata,
        error_code=ErrorCode.UNSTABLE_OFFSET_COMMIT,
    )
