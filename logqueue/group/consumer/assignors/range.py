"""The `range` assignor: of each topic, every subscriber gets one run of neighbouring partitions. Pure.

Topics with equally many partitions and the same subscribers are shared out alike, so partition n of each goes to one
member (co-partitioning). Static members come first, by instance id, so that their shares survive a new member id.
"""

from __future__ import annotations

from collections.abc import Mapping

from logqueue.group.consumer.assignors.subscriber import Subscriber
from logqueue.group.consumer.member import Partitions


def assign_ranges(members: Mapping[str, Subscriber], partitions: Mapping[bytes, int]) -> dict[str, Partitions]:
    """What each member is to hold."""
    ordered = sorted(members, key=lambda member_id: _rank(member_id, members[member_id]))
    shares: dict[str, dict[bytes, frozenset[int]]] = {member_id: {} for member_id in ordered}
    for topic_id, count in partitions.items():
        subscribers = [member_id for member_id in ordered if topic_id in members[member_id].topics]
        if not subscribers:
            continue
        least, extra = divmod(count, len(subscribers))
        start = 0
        for position, member_id in enumerate(subscribers):
            end = start + least + (position < extra)
            if end > start:
                shares[member_id][topic_id] = frozenset(range(start, end))
            start = end
    return dict(shares)


def _rank(member_id: str, member: Subscriber) -> tuple[bool, str]:
    return (True, member_id) if member.instance_id is None else (False, member.instance_id)
