"""The bounds of a worker follow from what a person asked for."""

from __future__ import annotations

import pytest
from logqueue_consumers.limits import MAX_CONCURRENCY, WorkerLimits
from logqueue_consumers.workbench import bounded

from logqueue.jobs.errors import InvalidSetting


@pytest.mark.parametrize("concurrency", [1, 100, 5_000, MAX_CONCURRENCY])
def test_as_many_jobs_fit_in_hand_as_may_run_even_where_one_partition_has_them_all(concurrency: int) -> None:
    limits = bounded(None, concurrency=concurrency)
    assert limits.concurrency == concurrency
    assert limits.max_unfinished >= 2 * concurrency
    assert limits.max_unfinished_per_partition >= concurrency


def test_little_concurrency_takes_no_room_away() -> None:
    limits = bounded(None, concurrency=1)
    assert limits.max_unfinished == WorkerLimits().max_unfinished


@pytest.mark.parametrize("concurrency", [0, -1, MAX_CONCURRENCY + 1])
def test_a_concurrency_out_of_bounds_is_refused(concurrency: int) -> None:
    with pytest.raises(InvalidSetting, match="is not 1 to"):
        bounded(None, concurrency=concurrency)
