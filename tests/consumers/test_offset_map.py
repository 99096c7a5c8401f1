"""The offset map: what is written is read back, within Kafka's limit, and only for the offset it was written with."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from logqueue_consumers.commits.offset_map import METADATA_LIMIT_BYTES, Run, decode, encode

bases = st.integers(min_value=0, max_value=2**62)


@st.composite
def runs_above(draw: st.DrawFn, base: int, largest: int = 2**20) -> list[Run]:
    lengths = st.integers(min_value=1, max_value=largest)
    runs, position = [], base
    for gap, length in draw(st.lists(st.tuples(lengths, lengths), max_size=200)):
        runs.append(Run(position + gap, position + gap + length))
        position += gap + length
    return runs


@given(st.data(), bases)
def test_what_is_written_is_read_back(data: st.DataObject, base: int) -> None:
    runs = data.draw(runs_above(base))
    assert list(decode(encode(base, runs), base=base)) == runs


@given(st.data(), bases)
def test_short_runs_are_read_back_through_the_bitmap(data: st.DataObject, base: int) -> None:
    runs = data.draw(runs_above(base, largest=3))
    assert list(decode(encode(base, runs), base=base)) == runs


@given(st.data(), bases)
def test_the_text_is_ascii_and_never_exceeds_the_limit_and_keeps_the_lowest_runs(
    data: st.DataObject, base: int
) -> None:
    runs = data.draw(runs_above(base))
    text = encode(base, runs, limit=64)
    assert len(text.encode("ascii")) <= 64
    kept = list(decode(text, base=base))
    assert kept == runs[: len(kept)]


@given(st.data(), bases, bases)
def test_a_map_written_for_another_offset_is_ignored(data: st.DataObject, base: int, other: int) -> None:
    runs = data.draw(runs_above(base))
    assert other == base or decode(encode(base, runs), base=other) == ()


@given(st.text(max_size=100), bases)
def test_foreign_metadata_is_ignored(text: str, base: int) -> None:
    assert decode(text, base=base) == ()
    assert decode("q1r" + text, base=base) == ()
    assert decode("q1b" + text, base=base) == ()


@given(st.data())
def test_a_damaged_map_is_ignored(data: st.DataObject) -> None:
    runs = [Run(12, 15), Run(20, 21), Run(40, 900)]
    text = encode(10, runs)
    position = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.characters(codec="ascii"))
    damaged = text[:position] + letter + text[position + 1 :]
    assert decode(damaged, base=10) in ((), tuple(runs))
    assert decode(text[:position], base=10) == ()


def test_one_stuck_job_below_fifty_thousand_finished_ones_costs_two_runs() -> None:
    text = encode(1_000_000, [Run(1_000_001, 1_050_001)])
    assert len(text) < 24
    assert decode(text, base=1_000_000) == (Run(1_000_001, 1_050_001),)


def test_run_lengths_decode_to_their_own_base_and_not_to_zero() -> None:
    assert decode(encode(77, [Run(78, 80)]), base=77)[0].start == 78
    assert decode(encode(77, [Run(78, 80)]), base=0) == ()


def test_every_second_offset_finished_uses_the_bitmap() -> None:
    runs = [Run(offset, offset + 1) for offset in range(1, 16_001, 2)]
    text = encode(0, runs)
    assert text.startswith("q1b")
    assert len(text) < 0.75 * METADATA_LIMIT_BYTES
    assert decode(text, base=0) == tuple(runs)


def test_nothing_finished_is_empty_metadata() -> None:
    assert encode(5, []) == ""
    assert decode("", base=5) == ()
