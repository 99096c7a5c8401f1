"""Bookmarks ride behind the offset map and are read back, whatever else stands in the metadata."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from logqueue_consumers.bookmark import MAX_CHARS, attach, split
from logqueue_consumers.offset_map import METADATA_LIMIT_BYTES, Run, decode, encode

positions = st.lists(st.integers(0, 2**62), min_size=1, max_size=16)


@given(positions, st.integers(0, 2**40))
def test_map_and_bookmark_are_read_back(marks: list[int], base: int) -> None:
    text = encode(base, [Run(base + 3, base + 9)])
    map_text, found = split(attach(text, marks))
    assert (map_text, found) == (text, tuple(marks))
    assert decode(map_text, base=base) == (Run(base + 3, base + 9),)


@given(positions)
def test_a_bookmark_stands_alone_where_the_map_is_empty(marks: list[int]) -> None:
    assert split(attach("", marks)) == ("", tuple(marks))


@given(st.text(max_size=60))
def test_foreign_metadata_has_no_bookmark(text: str) -> None:
    assert ";b1" in text or split(text)[1] is None


def test_a_bookmark_that_would_be_too_long_is_left_out() -> None:
    assert attach("q1", [2**62] * 100) == "q1"
    assert MAX_CHARS < METADATA_LIMIT_BYTES


def test_a_damaged_bookmark_is_none() -> None:
    assert split("q1;b1%%%")[1] is None
    assert split("q1;b1gA==")[1] is None
