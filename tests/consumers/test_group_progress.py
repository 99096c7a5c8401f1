"""What is left for a group in a partition, as its commit tells."""

from __future__ import annotations

import pytest
from logqueue_consumers.commits.group_progress import Behind, behind
from logqueue_consumers.commits.notes import Mark, Named, write_notes
from logqueue_consumers.commits.offset_map import Run, encode

MAP = encode(10, [Run(11, 15), Run(16, 20)])


def test_without_a_commit_everything_is_left() -> None:
    assert behind(start=3, end=10, committed=None, metadata="") == Behind(7, 7)


@pytest.mark.parametrize(
    "metadata",
    [
        MAP,
        write_notes(MAP, base=10, owner="1f.shop-1"),
        write_notes(MAP, base=10, bookmark=[3, 4], named=[Named(15, 1, Mark.NAMED)], is_handover=True),
    ],
)
def test_what_is_finished_above_the_commit_is_not_left_whatever_notes_the_commit_has(metadata: str) -> None:
    assert behind(start=0, end=20, committed=10, metadata=metadata) == Behind(10, 2)


def test_notes_without_a_map_say_nothing_of_what_is_finished() -> None:
    assert behind(start=0, end=20, committed=10, metadata=write_notes("", base=10, owner="1.a")) == Behind(10, 10)


def test_what_was_deleted_is_not_left() -> None:
    assert behind(start=13, end=20, committed=10, metadata=MAP) == Behind(7, 1)
    assert behind(start=20, end=20, committed=10, metadata=MAP) == Behind(0, 0)


def test_a_commit_behind_the_end_of_a_log_that_began_anew_leaves_nothing() -> None:
    assert behind(start=0, end=5, committed=10, metadata=MAP) == Behind(0, 0)
