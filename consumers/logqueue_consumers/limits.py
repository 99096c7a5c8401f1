"""The bounds of a worker: every queue, wait and buffer in this package takes its size from here."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

MAX_CONCURRENCY = 10_000


def available_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLimits:
    """Bounds with their defaults. Times in seconds unless the name says otherwise."""

    concurrency: int = 100
    """Jobs that run at once."""
    threads: int = 32
    """Threads for plain `def` handlers; never more than `concurrency` are used."""
    isolated_processes: int = field(default_factory=available_cpus)
    """Processes for handlers with `isolation="process"`; started when first needed."""
    isolated_grace_s: float = 4.0
    """How long such a handler may take to end when it has to; then its process is killed."""
    drain_timeout_s: float = 25.0
    """How long a stopping worker waits for running jobs; below the 30 s that supervisors usually grant."""
    revoke_grace_s: float = 10.0
    """How long a rebalance waits for running jobs of the partitions that may go."""
    flush_timeout_s: float = 10.0
    """How long a stop or a rebalance waits for the log to take the last outcomes, and then for the commit."""
    commit_interval_s: float = 0.5
    """Longest time between a durable outcome and the commit that covers it."""

    max_unfinished: int = 8_192
    """Records taken and not finished, all partitions together. Two transactions' worth: one is written while the jobs
    of the next run. With more, jobs are out of the processor's cache when their turn comes, a tenth slower."""
    max_unfinished_per_partition: int = 8_192
    """One partition may have all of it, beside what is set apart for the others. With half, ten tenants in ten
    partitions had to be put aside and read again: half as many jobs a second."""
    max_bytes_in_hand: int = 64 * 1024 * 1024
    """Values of records taken and not finished; one larger record alone is still taken."""
    max_fetched: int = 4_096
    """Records of one fetch handed over at once."""

    memory_retry_delay_s: float = 30.0
    """Retries due sooner wait in memory, later ones in the retry topic."""
    max_memory_retries: int = 1_000
    """Retries waiting in memory; further ones go through the retry topic, so failing jobs never fill the window."""
    max_delayed: int = 10_000
    """Records of a retry topic held in memory until they are due."""
    max_held: int = 1_000
    """Jobs held back by gates in memory; further ones go round through the retry topic."""
    suspect_wait_s: float = 10.0
    """How long a job that may have ended a process waits for others to end, so as to run alone."""
    alone_s: float = 30.0
    """How long such a job runs alone before the others go on beside it."""
    max_result_bytes: int = 256 * 1024
    """JSON of a job's result; a larger one is a permanent error (keep big results elsewhere, return a pointer)."""

    heartbeat_s: float = 3.0
    """How often a worker tells of itself in `jobs.workers`."""
    blocked_loop_s: float = 240.0
    """How long a thread keeps the worker in its group while a handler blocks the event loop; below the 300 s after
    which aiokafka leaves by itself."""
    stuck_after_s: float = 60.0
    """A worker that moves nothing for so long although there is work for it has a problem, and says so."""

    status_linger_s: float = 0.002
    """How long a started job may stay unreported while nothing else is to be written."""
    busy_linger_s: float = 0.010
    """How long outcomes collect under load."""
    busy_outcomes: int = 64
    """A flush of this many outcomes counts as load."""
    max_flush_outcomes: int = 4_096
    """Outcomes that are written without further lingering."""
    transaction_linger_s: float = 0.040
    """How long outcomes collect under load where a flush is a transaction: 50 to 100 ms with what that takes."""
    max_transaction_records: int = 4_096
    """Records of one transaction; an outcome that has more by itself goes alone."""
    transaction_timeout_ms: int = 10_000
    """When the log aborts a transaction that its worker left open; a successor does it at once."""
    max_emitted: int = 16_384
    """Records that belong to no outcome and wait for the next flush."""

    session_timeout_ms: int = 10_000
    heartbeat_interval_ms: int = 1_000
    fetch_wait_ms: int = 250
    """A fetch in flight keeps the partitions it lacks waiting, so it is short."""
    fetch_bytes: int = 16 * 1024 * 1024
    partition_fetch_bytes: int = 1024 * 1024
    batch_bytes: int = 512 * 1024
    """Of a produced batch; Kafka takes 1 MiB by default."""
    max_backoff_s: float = 5.0
    """Longest pause between attempts to reach the log again."""

    def __post_init__(self) -> None:
        assert 1 <= self.concurrency <= MAX_CONCURRENCY, f"concurrency is 1 to {MAX_CONCURRENCY}"

    @property
    def rebalance_timeout_ms(self) -> int:
        """A member must rejoin within this time: longer than all that a revoke may take."""
        return int((self.revoke_grace_s + 2 * self.flush_timeout_s + 10.0) * 1000)
