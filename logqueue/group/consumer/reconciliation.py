"""How a member gets from what it holds to what it is to hold, one step for each heartbeat (KIP-848). Pure.

    STABLE ----newer target----> give up first: UNREVOKED ----reported as given up----> take what is free
      ^                                                                                       |
      +------------------ all of it taken ------------- UNRELEASED <---- some not free yet ---+

A member enters the target's epoch only when it has given up everything that is not its own any more, and takes a
partition only when nobody holds it: so no partition ever has two owners at their present epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from logqueue.group.consumer.errors import FencedMemberEpoch
from logqueue.group.consumer.member import NO_PARTITIONS, ConsumerMember, MemberState, Partitions, Standing, overlaps

NOBODY: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a member's next step depends on, beside the member."""

    target_epoch: int
    target: Partitions
    subscribed: Collection[bytes]  # ids of the topics that the member reads
    has_new_subscription: bool
    owned: Partitions | None  # what the client says it owns; None: it did not say
    owner: Callable[[bytes, int], str | None]  # who holds a partition, or still gives it up


def reconcile(member: ConsumerMember, situation: Situation) -> Standing:
    """Where the member stands after this step. Raises FencedMemberEpoch for a state that this release does not know."""
    standing = member.standing
    match standing.state:
        case MemberState.STABLE:
            if standing.epoch != situation.target_epoch:
                return _next(member, situation)
            return _without_unsubscribed(standing, situation) if situation.has_new_subscription else standing
        case MemberState.UNREVOKED:
            if _still_owns(standing.revoking, situation.owned):
                return _without_unsubscribed(standing, situation) if situation.has_new_subscription else standing
            return _next(member, situation)
        case MemberState.UNRELEASED:
            return _next(member, situation)
        case MemberState.UNKNOWN:
            if situation.owned is None or situation.owned:
                raise FencedMemberEpoch("The consumer group member is in a unknown state.")
            at_target = replace(standing, epoch=situation.target_epoch)
            return _next(ConsumerMember(member.member_id, member.profile, at_target), situation)


def _still_owns(revoking: Partitions, owned: Partitions | None) -> bool:
    """Whether the client may still work on partitions it has to give up; one that does not say may."""
    return owned is None or overlaps(owned, revoking)


def _next(member: ConsumerMember, situation: Situation) -> Standing:
    """One step towards the target: give up, or else take what is free."""
    standing = member.standing
    kept: dict[bytes, frozenset[int]] = {}
    to_give_up: dict[bytes, frozenset[int]] = {}
    to_take: dict[bytes, frozenset[int]] = {}
    waits = False
    for topic_id in {**situation.target, **standing.assigned}:
        held = standing.assigned.get(topic_id, NOBODY)
        wanted = situation.target.get(topic_id, NOBODY) if topic_id in situation.subscribed else NOBODY
        if keep := held & wanted:
            kept[topic_id] = keep
        if surplus := held - wanted:
            to_give_up[topic_id] = surplus
        missing = wanted - held
        free = frozenset(p for p in missing if situation.owner(topic_id, p) in (None, member.member_id))
        if free:
            to_take[topic_id] = free
        waits = waits or len(free) < len(missing)
    if to_give_up and _still_owns(to_give_up, situation.owned):
        return Standing(
            epoch=standing.epoch,
            previous_epoch=standing.epoch,
            state=MemberState.UNREVOKED,
            assigned=kept,
            revoking=to_give_up,
        )
    for topic_id, taken in to_take.items():
        kept[topic_id] = kept.get(topic_id, NOBODY) | taken
    return Standing(
        epoch=situation.target_epoch,
        previous_epoch=standing.epoch,
        state=MemberState.UNRELEASED if waits else MemberState.STABLE,
        assigned=kept,
        revoking=NO_PARTITIONS,
    )


def _without_unsubscribed(standing: Standing, situation: Situation) -> Standing:
    """Take back at once what the member no longer reads, whatever the target still says."""
    kept = {topic_id: held for topic_id, held in standing.assigned.items() if topic_id in situation.subscribed}
    if len(kept) == len(standing.assigned):
        return standing
    revoking = dict(standing.revoking)
    for topic_id, held in standing.assigned.items():
        if topic_id not in kept:
            revoking[topic_id] = revoking.get(topic_id, NOBODY) | held
    if _still_owns(revoking, situation.owned):
        return replace(standing, state=MemberState.UNREVOKED, assigned=kept, revoking=revoking)
    return replace(standing, assigned=kept)
