"""How members of consumer groups go: they leave, or their time is up; and what becomes of the group then."""

from __future__ import annotations

from collections.abc import Collection

from logqueue.coordination.effects import Now
from logqueue.errors import ErrorCode
from logqueue.group.classic.group import ClassicGroup
from logqueue.group.classic.rebalance import Rebalance
from logqueue.group.consumer.draft import Draft
from logqueue.group.consumer.group import ConsumerGroup
from logqueue.group.consumer.migration import Migration
from logqueue.group.consumer.rebalance import ConsumerRebalance
from logqueue.group.consumer.timers import ConsumerTimers, Eviction
from logqueue.group.consumer.turns import Turns
from logqueue.group.ledger import Outcome
from logqueue.group.records import GroupChange, group_value


class Departures:
    """Takes members out. Call only in the group's turn."""

    def __init__(
        self,
        groups: dict[str, ConsumerGroup],
        classic_groups: dict[str, ClassicGroup],
        *,
        turns: Turns,
        rules: ConsumerRebalance,
        migration: Migration,
        classic_rebalance: Rebalance,
    ) -> None:
        self._groups = groups
        self._classic_groups = classic_groups
        self._turns = turns
        self._rules = rules
        self._migration = migration
        self._classic_rebalance = classic_rebalance
        self.timers: ConsumerTimers  # they call back here

    def take_out(self, draft: Draft, member_ids: Collection[str], now: Now, then: Outcome) -> None:
        """Remove members; without its last member of the consumer protocol the group becomes a classic one."""
        group_id = draft.group.group_id
        if self._migration.can_downgrade(draft.group, without=member_ids):
            self.downgrade(draft, without=member_ids, is_disturbed=True, now=now, then=then)
            return
        self._rules.remove(draft, member_ids)

        def settle(error: ErrorCode, later: Now) -> None:
            if error is ErrorCode.NONE:
                for member_id in member_ids:
                    self.timers.forget(group_id, member_id)
            then(error, later)

        self._turns.append(group_id, tuple(draft.changes), settle)

    def downgrade(
        self, draft: Draft, *, without: Collection[str] = (), is_disturbed: bool, now: Now, then: Outcome
    ) -> None:
        """Make a classic group of it; `is_disturbed` calls its members to join again."""
        group_id, member_ids = draft.group.group_id, list(draft.group.profiles)
        classic = self._migration.downgrade(draft.group, without=without, now=now)
        assignments = {member.member_id: member.assignment for member in classic.members.values()}
        draft.add(*draft.group.tombstones())
        changes = (*draft.changes, GroupChange(group_id, group_value(classic, assignments)))

        def settle(error: ErrorCode, later: Now) -> None:
            if error is ErrorCode.NONE:
                for member_id in member_ids:
                    self.timers.forget(group_id, member_id)
                self._rules.forget(group_id)
                self._classic_groups[group_id] = classic
                for member in classic.members.values():
                    self._classic_rebalance.keep_session(classic, member, later)
            then(error, later)
            if error is ErrorCode.NONE and is_disturbed:
                self._classic_rebalance.prepare(classic, later)

        self._turns.append(group_id, changes, settle)

    # Time

    def evict(self, eviction: Eviction, now: Now) -> None:
        """A member's time is up. With an epoch: only if it still is at that one."""
        self._turns.take(eviction.group_id, now, lambda later: self._evict(eviction, later))

    def _evict(self, eviction: Eviction, now: Now) -> None:
        _, group_id, member_id, epoch = eviction
        group = self._groups.get(group_id)
        member = None if group is None else group.member(member_id)
        if group is None or member is None:
            self.timers.forget(group_id, member_id)
            return
        if not self.timers.is_overdue(eviction) or (epoch is not None and member.standing.epoch != epoch):
            return  # it was heard of after all, by a request that stood before this in the line

        def settle(error: ErrorCode, later: Now) -> None:
            if error is not ErrorCode.NONE:  # the member is still there, and still silent: try again later
                self.timers.retry_eviction(eviction, later)

        self.take_out(Draft(group), [member_id], now, settle)
