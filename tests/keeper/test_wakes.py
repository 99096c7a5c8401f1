"""What is due is found as if every name were looked at, and what was set over and over is not kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from logqueue_consumers.keeper.wakes import Wakes

NAMES = st.sampled_from("abcdef")
TIMES = st.integers(0, 9)
STEPS = st.lists(
    st.one_of(st.tuples(st.just("set"), NAMES, st.none() | TIMES), st.tuples(st.just("due"), TIMES, st.integers(1, 4))),
    max_size=60,
)


@given(STEPS)
def test_it_answers_as_a_look_at_every_name_would(steps: list[tuple[str, str | int, int | None]]) -> None:
    wakes, known = Wakes(), dict[str, int]()
    for kind, what, number in steps:
        if kind == "set":
            assert isinstance(what, str)
            wakes.set(what, number)
            known.pop(what, None)
            if number is not None:
                known[what] = number
        else:
            assert isinstance(what, int) and number is not None
            expected = sorted((wake, name) for name, wake in known.items() if wake <= what)[:number]
            assert wakes.due(what, number) == [name for _, name in expected]
        assert wakes.first() == min(known.values(), default=None)


def test_times_that_were_replaced_are_dropped() -> None:
    wakes = Wakes()
    for wake_ms in range(10_000):
        wakes.set("often", wake_ms)
        wakes.set("never", None)
    assert len(wakes._heap) < 2_000
    assert wakes.due(10_000, 5) == ["often"]
