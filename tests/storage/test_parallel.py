"""Tasks that run side by side, or one after the other where they are few: all to their end."""

from __future__ import annotations

from functools import partial

import pytest

from logqueue.storage.parallel import MIN_TASKS, run_all


@pytest.mark.parametrize("count", [4, MIN_TASKS - 1, MIN_TASKS, 3 * MIN_TASKS])
def test_all_tasks_are_run_and_then_the_first_error_is_raised(count: int) -> None:
    done: list[int] = []

    def run(number: int) -> int:
        if number < 2:
            raise OSError(number, "refused")
        done.append(number)
        return number

    with pytest.raises(OSError, match="refused") as raised:
        run_all([partial(run, number) for number in range(count)])
    assert raised.value.errno == 0
    assert sorted(done) == list(range(2, count))
    assert run_all([partial(run, number) for number in range(2, count)]) == list(range(2, count))
