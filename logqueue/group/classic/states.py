"""The states of a classic group and the moves between them, as one table. Knows nothing of members or requests.

What each state answers:

| state               | JoinGroup             | SyncGroup             | Heartbeat             | OffsetCommit          |
|---------------------|-----------------------|-----------------------|-----------------------|-----------------------|
| Empty               | first rebalance       | unknown member        | unknown member        | generation -1 only    |
| PreparingRebalance  | parked until complete | rebalance in progress | rebalance in progress | accepted (old gen.)   |
| CompletingRebalance | current generation *  | parked for the leader | accepted              | rebalance in progress |
| Stable              | current generation ** | current assignment    | accepted              | accepted              |
| Dead                | not available         | not available         | not available         | not available         |

`*` for a member whose metadata is unchanged, else a new rebalance; `**` likewise, and never for the leader.
"""

from __future__ import annotations

from enum import Enum


class GroupState(Enum):
    """A state, with the name that ListGroups and DescribeGroups show."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


EMPTY = GroupState.EMPTY
PREPARING_REBALANCE = GroupState.PREPARING_REBALANCE
COMPLETING_REBALANCE = GroupState.COMPLETING_REBALANCE
STABLE = GroupState.STABLE
DEAD = GroupState.DEAD

MOVES: dict[GroupState, frozenset[GroupState]] = {
    EMPTY: frozenset({PREPARING_REBALANCE, DEAD}),
    PREPARING_REBALANCE: frozenset({EMPTY, COMPLETING_REBALANCE, DEAD}),
    COMPLETING_REBALANCE: frozenset({PREPARING_REBALANCE, STABLE, DEAD}),
    STABLE: frozenset({PREPARING_REBALANCE, DEAD}),
    # A group is Dead while its tombstone is being written; when that fails it is Empty again.
    DEAD: frozenset({EMPTY}),
}
