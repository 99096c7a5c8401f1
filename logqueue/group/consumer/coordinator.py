"""Consumer groups (KIP-848) of one broker: the door to all that concerns them. Imported when the first one comes.

`coordinator.GroupCoordinator` owns it and runs it like the classic side: calls leave effects in the ledger.
"""

from __future__ import annotations

from collections.abc import Callable

from logqueue.config import BrokerConfig
from logqueue.config.group import GroupConfig
from logqueue.coordination.effects import Caller, Now
from logqueue.coordination.timers import Timers
from logqueue.coordination.topics import Topics
from logqueue.errors import ErrorCode
from logqueue.group.classic.group import ClassicGroup
from logqueue.group.classic.rebalance import Rebalance
from logqueue.group.consumer.classic_members import ClassicMembers
from logqueue.group.consumer.departures import Departures
from logqueue.group.consumer.draft import Draft
from logqueue.group.consumer.group import ConsumerGroup
from logqueue.group.consumer.heartbeat import ConsumerHeartbeats
from logqueue.group.consumer.listing import ConsumerListing
from logqueue.group.consumer.migration import Migration
from logqueue.group.consumer.rebalance import ConsumerRebalance
from logqueue.group.consumer.records import ConsumerChange, EpochChange, is_removal
from logqueue.group.consumer.timers import ConsumerTimers, Sees
from logqueue.group.consumer.turns import Turns
from logqueue.group.ledger import Ledger, Outcome
from logqueue.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from logqueue.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest


class ConsumerCoordinator:
    """Wires the parts; `groups` is shared with the classic side, which needs to know which ids are taken."""

    def __init__(
        self,
        groups: dict[str, ConsumerGroup],
        classic_groups: dict[str, ClassicGroup],
        *,
        config: BrokerConfig,
        config_of: Callable[[str], GroupConfig],
        topics: Topics,
        ledger: Ledger,
        turns: Turns,
        timers: Timers,
        classic_rebalance: Rebalance,
        random_id: Callable[[], str],
    ) -> None:
        self._groups = groups
        self._config_of = config_of
        self._turns = turns
        self._rules = rules = ConsumerRebalance(config, topics)
        migration = Migration(config, topics)
        departures = Departures(
            groups,
            classic_groups,
            turns=turns,
            rules=rules,
            migration=migration,
            classic_rebalance=classic_rebalance,
        )
        self._timers = departures.timers = ConsumerTimers(
            timers, evict=departures.evict, refresh_regexes=self._refresh_regexes
        )
        self._heartbeats = ConsumerHeartbeats(
            groups,
            classic_groups,
            config=config,
            config_of=config_of,
            ledger=ledger,
            turns=turns,
            rules=rules,
            migration=migration,
            departures=departures,
            timers=self._timers,
            end_classic=classic_rebalance.turn_away,
            release_classic=classic_rebalance.release,
            random_id=random_id,
        )
        self.classic_members = ClassicMembers(
            config=config,
            topics=topics,
            ledger=ledger,
            turns=turns,
            rules=rules,
            migration=migration,
            departures=departures,
            timers=self._timers,
            random_id=random_id,
        )
        self._listing = ConsumerListing(groups, classic_groups, ledger=ledger, topics=topics, assignors=rules.assignors)

    # Requests

    def heartbeat(self, request: ConsumerGroupHeartbeatRequest, *, caller: Caller, now: Now) -> None:
        """ConsumerGroupHeartbeat 0-1."""
        self._heartbeats.heartbeat(request, caller=caller, now=now)

    def describe(self, request: ConsumerGroupDescribeRequest, *, caller: Caller) -> None:
        """ConsumerGroupDescribe 0-1."""
        self._listing.describe(request, caller=caller)

    def make_way(self, group: ConsumerGroup, then: Outcome) -> None:
        """Remove an empty group, its offsets not included: a classic client wants its name."""
        self._turns.append(group.group_id, tuple(group.tombstones()), then)

    # Records

    def apply(self, change: ConsumerChange) -> None:
        """A record is durable, or replayed."""
        group_id = change.group_id
        if isinstance(change, EpochChange) and change.epoch is None:
            self._groups.pop(group_id, None)
            self._rules.forget(group_id)
            return
        group = self._groups.get(group_id)
        if group is None:
            if is_removal(change):
                return  # the tombstone of something that compaction has taken already
            group = self._groups[group_id] = ConsumerGroup(group_id)
        group.apply(change)

    def on_loaded(self, now: Now) -> None:
        """Everything is replayed: sessions run from now."""
        for group_id, group in self._groups.items():
            timeout_ms = self._config_of(group_id).consumer_session_timeout_ms
            for member in group.members():
                self._timers.keep_session(group_id, member.member_id, timeout_ms=timeout_ms, now=now)
                self._timers.watch_revocation(group_id, member, now)

    # Time

    def _refresh_regexes(self, group_id: str, sees: Sees, now: Now) -> None:
        self._turns.take(group_id, now, lambda later: self._resolve(group_id, sees, later))

    def _resolve(self, group_id: str, sees: Sees, now: Now) -> None:
        group = self._groups.get(group_id)
        if group is None or not group.regex_subscribers:
            return
        draft = Draft(group)
        self._rules.refresh_regexes(draft, sees, now)
        # A failure is made good by the next heartbeat, which finds them still unresolved.
        self._turns.append(group_id, tuple(draft.changes), _whatever)


def _whatever(error: ErrorCode, now: Now) -> None:
    """Nobody waits for the outcome."""
