"""Pieces of knowledge about a few jobs, as job records and statuses give them: few values, so that they meet."""

from __future__ import annotations

from hypothesis import strategies as st
from logqueue_consumers.view.job import FROM_JOB_RECORD, FROM_STATUS, RANKS, Identity, Job, JobKey, Outcome, State
from logqueue_consumers.view.jobs_table import Changes


def queued(id_: str, *, offset: int = 0, created_ms: int = 1_000, type_: str | None = "mail", replay: int = 0) -> Job:
    identity = Identity(FROM_JOB_RECORD, created_ms, "jobs.mail", 0, offset, "mail", "acme")
    outcome = Outcome(replay, 1, RANKS[State.QUEUED], 0, State.QUEUED, created_ms * 1000, "")
    return Job(JobKey(id_), type_, identity, outcome)


def status(
    id_: str,
    state: State,
    *,
    attempt: int = 1,
    replay: int = 0,
    sequence: int = 1,
    shadow: str = "",
    result: bytes | None = None,
) -> Job:
    identity = Identity(FROM_STATUS, 1_000, "jobs.mail", 0, 0, "mail", "acme")
    outcome = Outcome(replay, attempt, RANKS[state], sequence, state, 2_000_000, "app", result=result)
    return Job(JobKey(id_, shadow), "mail", identity, outcome)


def states(changes: Changes) -> dict[JobKey, State]:
    """What has changed, job by job."""
    return {JobKey(id_, shadow): state for (shadow, state), ids in changes.items() for id_ in ids}


names = st.sampled_from(["a", "b"])
pieces = st.lists(
    st.one_of(
        st.builds(
            queued,
            names,
            offset=st.integers(0, 2),
            created_ms=st.integers(0, 2),
            type_=st.sampled_from(["mail", "other", None]),
            replay=st.integers(0, 1),
        ),
        st.builds(
            status,
            names,
            st.sampled_from(State),
            attempt=st.integers(1, 2),
            replay=st.integers(0, 1),
            sequence=st.integers(0, 2),
            shadow=st.sampled_from(["", "audit"]),
            result=st.sampled_from([None, b"1", b"2"]),
        ),
    ),
    max_size=12,
)
