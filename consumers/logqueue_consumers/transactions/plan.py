"""What one flush writes in which transaction, and what becomes of it after a commit, an abort, a refusal. No IO.

| verdict   | outcomes of the transaction        | afterwards                               |
|-----------|------------------------------------|------------------------------------------|
| committed | done, their offsets are finished   | the rest goes into the next transaction  |
| aborted   | as if it had never been            | written again, in order, before the rest |
| refused   | those with a refused record: never | the others as after an abort             |

Before each transaction `pending.settle` sorts out what belongs to partitions that are away or lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from logqueue_consumers.commits.notes import Retried
from logqueue_consumers.job import Job
from logqueue_consumers.outcome import Outcome
from logqueue_consumers.partitions.partition import OwnedPartition
from logqueue_consumers.retrying.notes import retried_of
from logqueue_consumers.writing.pending import Delivered, Pending


def still_open(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Without those whose records were finished meanwhile by another owner: after an abort that took a rebalance."""
    return [
        outcome
        for outcome in outcomes
        if outcome.job.offset in outcome.job.partition.carried
        or outcome.job.partition.window.is_unfinished(outcome.job.offset)
    ]


def cut(pending: Pending, limit: int, ready: Collection[OwnedPartition]) -> tuple[Pending, Pending]:
    """The next transaction, of at most `limit` records (one outcome alone may have more), and what follows it.

    Only partitions in `ready` can take part: of the others (a rebalance is just over) the position is not known yet.
    Nothing overtakes an outcome of its own partition.
    """
    started, outcomes = [], []
    later_started, later_outcomes = [], []
    size = 0
    for job in pending.started:
        if job.partition in ready and size < limit:
            started.append(job)
            size += 1
        else:
            later_started.append(job)
    has_room = True
    for outcome in pending.outcomes:
        weight = 1 + (outcome.topic is not None) + len(outcome.more)
        has_room = has_room and (size == 0 or size + weight <= limit)
        if has_room and outcome.job.partition in ready:
            outcomes.append(outcome)
            size += weight
        else:
            later_outcomes.append(outcome)
    room = max(0, limit - size) if has_room else 0
    now = Pending(outcomes, started, pending.emitted[:room])
    return now, Pending(later_outcomes, later_started, pending.emitted[room:])


def after_commit(now: Pending, later: Pending) -> Delivered:
    """The transaction is in the log."""
    return Delivered(now.outcomes, later)


def after_abort(now: Pending, later: Pending) -> Delivered:
    """Nothing of the transaction happened."""
    return Delivered((), Pending(still_open(now.outcomes), now.started, now.emitted) + later)


def after_refusal(
    now: Pending, later: Pending, *, outcomes: Collection[Outcome], jobs: Collection[Job], emitted: Collection[int]
) -> Delivered:
    """The log will never take a record of these (`emitted` by place): they are not done; the others are tried again."""
    rest = Pending(
        [outcome for outcome in now.outcomes if outcome not in outcomes],
        [job for job in now.started if job not in jobs],
        [record for place, record in enumerate(now.emitted) if place not in emitted],
    )
    return after_abort(rest, later)


def retrying(pending: Pending) -> dict[OwnedPartition, list[Retried]]:
    """The jobs that wait in memory after this, by partition."""
    found: dict[OwnedPartition, list[Retried]] = {}
    for outcome in pending.outcomes:
        if not outcome.finishes and outcome.is_put_off:
            found.setdefault(outcome.job.partition, []).append(retried_of(outcome))
    return found


def finishing(pending: Pending) -> dict[OwnedPartition, list[int]]:
    """Of each partition that this speaks of, the offsets that it finishes (which may be none)."""
    found: dict[OwnedPartition, list[int]] = {job.partition: [] for job in pending.started}
    for outcome in pending.outcomes:
        job = outcome.job
        offsets = found.get(job.partition)
        if offsets is None:
            offsets = found[job.partition] = []
        if outcome.finishes:
            offsets.append(job.offset)
    return found
