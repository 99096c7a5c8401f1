"""The states of a transactional id and the moves between them, as one table. Knows nothing of requests.

What each state answers (KIP-98; TV2 is `transaction.version` 2 of KIP-890, where every end bumps the epoch):

| state          | InitProducerId       | AddPartitions, AddOffsets | EndTxn                                 |
|----------------|----------------------|---------------------------|----------------------------------------|
| Empty          | next epoch           | begins a transaction      | TV2 abort: bumps; else invalid         |
| Ongoing        | fences and aborts *  | adds                      | commits or aborts                      |
| PrepareCommit  | concurrent           | concurrent                | concurrent                             |
| PrepareAbort   | concurrent           | concurrent                | concurrent                             |
| CompleteCommit | next epoch           | begins a transaction      | same end again: fine; TV2 abort: bumps |
| CompleteAbort  | next epoch           | begins a transaction      | same end again: fine; TV2 abort: bumps |
| Dead           | as if it never was   | unknown producer id       | unknown producer id                    |

`*` and answers CONCURRENT_TRANSACTIONS: the client asks again. While a record of the id is being written every state
answers CONCURRENT_TRANSACTIONS; in Prepare that is always so, because its markers are under way.
"""

from __future__ import annotations

from enum import IntEnum


class TransactionState(IntEnum):
    """A state; the number is what `__transaction_state` stores."""

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5
    DEAD = 6
    PREPARE_EPOCH_FENCE = 7  # a name that Kafka lists; no id rests in it and no record holds it

    @property
    def label(self) -> str:
        """The name that ListTransactions and DescribeTransactions show."""
        return _LABELS[self]


_LABELS = {state: "".join(word.capitalize() for word in state.name.split("_")) for state in TransactionState}
BY_LABEL = {label: state for state, label in _LABELS.items()}

EMPTY = TransactionState.EMPTY
ONGOING = TransactionState.ONGOING
PREPARE_COMMIT = TransactionState.PREPARE_COMMIT
PREPARE_ABORT = TransactionState.PREPARE_ABORT
COMPLETE_COMMIT = TransactionState.COMPLETE_COMMIT
COMPLETE_ABORT = TransactionState.COMPLETE_ABORT
DEAD = TransactionState.DEAD

# TV2 lets a producer that does not know whether the broker has seen its transaction abort it in any case (KIP-890).
_AT_REST = frozenset({EMPTY, ONGOING, PREPARE_ABORT, DEAD})

MOVES: dict[TransactionState, frozenset[TransactionState]] = {
    EMPTY: _AT_REST,
    ONGOING: frozenset({ONGOING, PREPARE_COMMIT, PREPARE_ABORT}),
    PREPARE_COMMIT: frozenset({COMPLETE_COMMIT}),
    PREPARE_ABORT: frozenset({COMPLETE_ABORT}),
    COMPLETE_COMMIT: _AT_REST,
    COMPLETE_ABORT: _AT_REST,
    DEAD: frozenset(),
    TransactionState.PREPARE_EPOCH_FENCE: frozenset(),
}

EXPIRABLE = frozenset({EMPTY, COMPLETE_COMMIT, COMPLETE_ABORT})
PREPARED = frozenset({PREPARE_COMMIT, PREPARE_ABORT})
