"""How fast jobs go round again, and when it is better to stop: too many of them fail again. Pure: the time comes in."""

from __future__ import annotations

from dataclasses import dataclass

from logqueue_schemas.job_status import JobStatus, State

from logqueue.jobs.errors import InvalidSetting

STEP_S = 0.1
"""How often a paced replay sends."""
BATCH = 1_000
"""Jobs that are sent together at most."""
MAX_RATE = 100_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """`rate` jobs a second at most (None: as fast as the log takes them).

    Stop when more than `max_failed_share` of those that have ended or failed did fail, once `min_sample` have.
    """

    rate: float | None = None
    max_failed_share: float = 0.5
    min_sample: int = 20

    def __post_init__(self) -> None:
        if self.rate is not None and not 0 < self.rate <= MAX_RATE:
            raise InvalidSetting(f"rate {self.rate:g} is not more than 0 and at most {MAX_RATE:g} a second")
        if not 0 <= self.max_failed_share <= 1:
            raise InvalidSetting(f"max_failed_share {self.max_failed_share:g} is not a share, 0 to 1")
        if self.min_sample < 1:
            raise InvalidSetting(f"min_sample {self.min_sample} is not at least 1")

    def due(self, sent: int, elapsed_s: float) -> int:
        """How many may be sent now, `elapsed_s` after the first, when `sent` were."""
        if self.rate is None:
            return BATCH
        return max(0, min(BATCH, 1 + int(self.rate * elapsed_s) - sent))


class Tally:
    """What becomes of jobs that were sent round again, from their statuses."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._sent: dict[str, int] = {}
        self._failed: set[str] = set()
        self._succeeded: set[str] = set()

    @property
    def failed(self) -> int:
        """Jobs whose last news is a failure."""
        return len(self._failed)

    @property
    def succeeded(self) -> int:
        """Jobs that ended well."""
        return len(self._succeeded)

    def send(self, job_id: str, replay: int) -> None:
        """This job goes round as this replay."""
        self._sent[job_id] = replay

    def note(self, status: JobStatus) -> None:
        """News of a job: the first failure of a round counts at once, a success takes it back."""
        if status.shadow or status.replay < self._sent.get(status.id, status.replay + 1):
            return
        if status.state is State.SUCCEEDED:
            self._failed.discard(status.id)
            self._succeeded.add(status.id)
        elif status.state in (State.RETRYING, State.DEAD) and status.id not in self._succeeded:
            self._failed.add(status.id)

    def verdict(self) -> str | None:
        """Why to stop, or None."""
        known = self.failed + self.succeeded
        if known < self._pace.min_sample or self.failed <= known * self._pace.max_failed_share:
            return None
        return f"{self.failed} of {known} failed again (more than {self._pace.max_failed_share:.0%})"
