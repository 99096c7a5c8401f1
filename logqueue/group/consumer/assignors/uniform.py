"""The `uniform` assignor: shares of equal size, and as few moves as that allows (balance before stickiness). Pure.

Where all members read the same topics no two shares differ by more than one partition. Where they do not, no single
move between two members would make the shares more even, up to ROUNDS_MAX rounds of moving.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from logqueue.group.consumer.assignors.subscriber import Subscriber
from logqueue.group.consumer.member import Partitions, partitions_of

# Each round about halves what is uneven. Most groups need one, and one more to see that nothing is left to move.
ROUNDS_MAX = 16


class _Partition(NamedTuple):
    topic_id: bytes
    number: int


def assign_uniformly(members: Mapping[str, Subscriber], partitions: Mapping[bytes, int]) -> dict[str, Partitions]:
    """What each member is to hold."""
    if len({member.topics for member in members.values()}) <= 1:
        shares = _assign_alike(members, partitions)
    else:
        shares = _assign_differing(members, partitions)
    return {member_id: partitions_of((p.topic_id, (p.number,)) for p in share) for member_id, share in shares.items()}


def _kept(members: Mapping[str, Subscriber], partitions: Mapping[bytes, int]) -> dict[str, list[_Partition]]:
    """What each member was to hold and may still: it reads the topic, which has that partition."""
    return {
        member_id: [
            _Partition(topic_id, index)
            for topic_id, indexes in member.present.items()
            if topic_id in member.topics
            for index in sorted(indexes)
            if index < partitions.get(topic_id, 0)
        ]
        for member_id, member in members.items()
    }


def _unassigned(
    shares: Mapping[str, Iterable[_Partition]], topics: Iterable[bytes], partitions: Mapping[bytes, int]
) -> list[_Partition]:
    taken = {partition for share in shares.values() for partition in share}
    every = (_Partition(topic_id, index) for topic_id in topics for index in range(partitions[topic_id]))
    return [partition for partition in every if partition not in taken]


# All members read the same topics


def _assign_alike(members: Mapping[str, Subscriber], partitions: Mapping[bytes, int]) -> dict[str, list[_Partition]]:
    """Everybody keeps up to a quota, the rest goes to who is below it."""
    if not members:
        return {}
    topics = sorted(next(iter(members.values())).topics & partitions.keys())
    shares = _kept(members, partitions)
    free = _unassigned(shares, topics, partitions)
    least, extra = divmod(sum(partitions[topic_id] for topic_id in topics), len(members))
    missing: list[tuple[str, int]] = []
    for left, member_id in zip(range(len(members), 0, -1), shares, strict=True):
        share = shares[member_id]
        # The last members of the list have to take the extra partitions that nobody before them did.
        takes_extra = extra > 0 and (len(share) > least or left <= extra)
        quota = least + takes_extra
        extra -= takes_extra
        free += share[quota:]
        del share[quota:]
        if len(share) < quota:
            missing.append((member_id, quota - len(share)))
    for member_id, count in missing:
        shares[member_id] += free[:count]
        del free[:count]
    return shares


# Members read different topics


def _assign_differing(
    members: Mapping[str, Subscriber], partitions: Mapping[bytes, int]
) -> dict[str, list[_Partition]]:
    """Everybody keeps what it has, the rest goes to whoever has least; then partitions move until shares are even."""
    readers: dict[bytes, list[str]] = {}
    for member_id, member in members.items():
        for topic_id in member.topics:
            if topic_id in partitions:
                readers.setdefault(topic_id, []).append(member_id)
    # Topics with many partitions and few readers first: they leave the least choice.
    topics = sorted(readers, key=lambda t: (-partitions[t] / len(readers[t]), len(readers[t]), t))
    shares = {member_id: set(share) for member_id, share in _kept(members, partitions).items()}
    for topic_id in topics:
        _hand_out(_unassigned(shares, (topic_id,), partitions), readers[topic_id], shares)
    for _ in range(ROUNDS_MAX):
        if not sum(_even_out(topic_id, readers[topic_id], shares) for topic_id in topics):
            break
    return {member_id: sorted(share) for member_id, share in shares.items()}


def _hand_out(free: list[_Partition], readers: list[str], shares: dict[str, set[_Partition]]) -> None:
    """Give each partition to the reader with the smallest share."""
    if not free:
        return
    heap = [(len(shares[member_id]), position) for position, member_id in enumerate(readers)]
    heapq.heapify(heap)
    for partition in free:
        size, position = heap[0]
        shares[readers[position]].add(partition)
        heapq.heapreplace(heap, (size + 1, position))


def _even_out(topic_id: bytes, readers: list[str], shares: dict[str, set[_Partition]]) -> int:
    """Move partitions of one topic from large shares to small ones while that evens them out. Number of moves."""
    owned = {
        member_id: sorted(partition for partition in shares[member_id] if partition.topic_id == topic_id)
        for member_id in readers
    }
    smallest = [(len(shares[member_id]), position) for position, member_id in enumerate(readers)]
    largest = [(-size, position) for size, position in smallest if owned[readers[position]]]
    heapq.heapify(smallest)
    heapq.heapify(largest)
    moves = 0
    while largest:
        size, taker = smallest[0]
        if size != len(shares[readers[taker]]):
            heapq.heapreplace(smallest, (len(shares[readers[taker]]), taker))
            continue
        negative, giver = largest[0]
        if -negative != len(shares[readers[giver]]):
            heapq.heapreplace(largest, (-len(shares[readers[giver]]), giver))
            continue
        if -negative - size <= 1:
            break
        source, destination = readers[giver], readers[taker]
        partition = owned[source].pop()
        shares[source].remove(partition)
        shares[destination].add(partition)
        moves += 1
        if not owned[source]:
            heapq.heappop(largest)
        if not owned[destination]:
            heapq.heappush(largest, (-len(shares[destination]), taker))
        owned[destination].append(partition)
    return moves
