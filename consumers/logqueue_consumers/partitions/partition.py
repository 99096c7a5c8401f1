"""A partition that this worker owns, from assignment to loss: its window, its backlog, its lanes. No IO."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any

from logqueue.jobs.topics import TopicKind
from logqueue_consumers.commits.offset_map import Run, merge
from logqueue_consumers.partitions.lanes import Lanes
from logqueue_consumers.partitions.shard import Shard, ShardId
from logqueue_consumers.partitions.window import PartitionWindow

if TYPE_CHECKING:
    from logqueue_consumers.commits.notes import Retried
    from logqueue_consumers.crashes.watch import Watch
    from logqueue_consumers.dispatch.window_share import WindowShare
    from logqueue_consumers.job import Job
    from logqueue_consumers.outcome import Outcome


class Standing(Enum):
    """Whether results of a partition's jobs may be written.

    | from    | to      | when                                                            |
    |---------|---------|-----------------------------------------------------------------|
    | OWNED   | REVOKED | a rebalance begins, after the last commit; outcomes are held     |
    | REVOKED | OWNED   | it came back: running jobs carry on, held outcomes are written   |
    | REVOKED | LOST    | it went to another member: running jobs are cancelled            |
    """

    OWNED = "owned"
    REVOKED = "revoked"
    LOST = "lost"


class OwnedPartition:
    """One partition of a job, retry or parked topic in this worker's hands."""

    __slots__ = (
        "backlog",
        "bytes_in_hand",
        "carried",
        "committed",
        "end",
        "has_tenants",
        "held",
        "is_read",
        "is_stopping",
        "kind",
        "lanes",
        "may_have_origin",
        "order",
        "partition",
        "priority",
        "queue",
        "retried",
        "seek_to",
        "shard",
        "share",
        "standing",
        "topic",
        "watch",
        "window",
    )

    def __init__(
        self,
        topic: str,
        partition: int,
        *,
        kind: TopicKind,
        queue: str,
        order: str,
        window: PartitionWindow,
        priority: str | None = None,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.kind = kind
        self.queue = queue
        self.order = order
        self.priority = priority
        """The priority class of the topic's jobs; None where they may be of any class."""
        self.shard = Shard(ShardId(queue, partition))
        """What is known of the tenants of this number; shared with the queue's other topics once it is open."""
        self.may_have_origin = kind is not TopicKind.JOBS
        """Records of retry and parked topics say where their job began."""
        self.window = window
        self.watch: Watch | None = None
        """Set while a job of this partition may be one that ends its process."""
        self.retried: dict[int, Retried | None] = {}
        """Unfinished jobs on a later attempt than their records say, by offset; None until the log has that attempt."""
        self.backlog: deque[Any] = deque()
        """Records fetched and not taken yet, as aiokafka gives them."""
        self.lanes: Lanes[Job] = Lanes()
        self.bytes_in_hand = 0
        self.standing = Standing.OWNED
        self.is_stopping = False
        """No job of this partition starts any more."""
        self.carried: dict[int, Job] = {}
        """Jobs that run since before a rebalance, by offset."""
        self.held: list[Outcome] = []
        """Outcomes that wait for the end of a rebalance."""
        self.committed: tuple[int, str] | None = None
        """What the log is known to hold for this partition."""
        self.end: int | None = None
        """A replay stops below this offset; None for a partition that never ends."""
        self.is_read = False
        """Everything below `end` was fetched."""
        self.share: WindowShare | None = None
        """How tenants share the window, once it is crowded."""
        self.has_tenants = False
        """Records with keys were seen when it became crowded."""
        self.seek_to: int | None = None
        """Where the next fetch must begin, if that is not where the last one ended."""

    def reopen(self, base: int, finished: Iterable[Run], *, running: Iterable[Job], ended: Iterable[Job]) -> set[Job]:
        """The partition came back with this commit; returns the jobs that another member finished meanwhile.

        `running` are jobs that still run, `ended` those whose outcomes were held. What was finished here stays
        finished, whoever held the partition in between, unless an operator moved the group back below what this worker
        had committed.
        """
        runs = list(finished)
        was_reset = self.committed is not None and base < self.committed[0]
        if not was_reset:
            base = max(base, self.window.commit_offset())
            runs = [run for run in merge([*runs, *self.window.finished_runs()]) if run.end > base]
            if runs and runs[0].start <= base:
                base = runs.pop(0).end
        self.restart(base, runs)
        self.standing = Standing.OWNED
        self.is_stopping = False
        gone: set[Job] = set()
        for job, is_running in [*((job, True) for job in running), *((job, False) for job in ended)]:
            if job.offset < base or any(run.start <= job.offset < run.end for run in runs):
                gone.add(job)
                continue
            self.carried[job.offset] = job
            self.bytes_in_hand += job.size
            if is_running and job.lane is not None:
                self.lanes.enter(job.lane, job)
        return gone

    def restart(self, base: int, finished: Iterable[Run] = ()) -> None:
        """Begin again at `base` with nothing in hand."""
        self.window = PartitionWindow(base, finished)
        self.backlog.clear()
        self.lanes = Lanes()
        self.bytes_in_hand = 0
        self.carried = {}
        self.watch = None
        self.retried = {}
        self.share = None
        self.seek_to = None
