"""The client's half of a fetch session: what it names is what has changed, and a broker that listens knows all."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from logqueue.jobs.fetch_session import Asked, FetchSession, Wanted

TOPICS = ("a", "b")
partitions = st.dictionaries(st.integers(0, 3), st.integers(0, 2), max_size=4)
wanted = st.fixed_dictionaries(dict.fromkeys(TOPICS, partitions))
fates = st.sampled_from(["answered"] * 6 + ["lost on the way", "lost on the way back", "forgotten", "refused"])
ID_NOT_FOUND, INVALID_EPOCH = 70, 71
OWNER, OTHER = object(), object()


class Listener:
    """A broker's half, by the rules of KIP-227."""

    def __init__(self) -> None:
        self.id = 0
        self.epoch = 0
        self.held: dict[tuple[str, int], Wanted] = {}
        self._last_id = 100

    def hear(self, asked: Asked, *, may_open: bool = True) -> tuple[int, int]:
        """Error and session id of the answer."""
        if asked.epoch == 0:
            self.held.clear()
            self._last_id += 1
            self.id, self.epoch = (self._last_id, 1) if may_open else (0, 0)
        elif asked.session_id != self.id:
            return ID_NOT_FOUND, 0
        elif asked.epoch != self.epoch:
            return INVALID_EPOCH, 0
        else:
            self.epoch += 1
        for topic, parts in asked.topics:
            self.held |= {(topic, part[0]): part for part in parts}
        for topic, numbers in asked.forgotten:
            for number in numbers:
                del self.held[topic, number]
        return 0, self.id


def request(offsets: dict[str, dict[int, int]]) -> list[tuple[str, list[Wanted]]]:
    return [(topic, [(number, offset, 9) for number, offset in parts.items()]) for topic, parts in offsets.items()]


def flat(topics: Any) -> dict[tuple[str, int], Wanted]:
    return {(topic, part[0]): part for topic, parts in topics for part in parts}


@given(st.lists(st.tuples(wanted, fates, st.booleans()), max_size=12))
def test_a_broker_that_answers_was_asked_for_what_is_wanted(steps: list[tuple[Any, str, bool]]) -> None:
    session, broker = FetchSession(), Listener()
    for offsets, fate, is_other in steps:
        asked = session.ask(request(offsets), OTHER if is_other else OWNER)
        if fate == "lost on the way":
            continue
        if fate == "forgotten":
            broker.id = -1  # the session was evicted, or the broker started again
        error, number = broker.hear(asked, may_open=fate != "refused")
        if fate == "lost on the way back":
            continue
        if not error:
            assert broker.held == flat(request(offsets))
        session.answered(error, number)


def test_only_what_has_moved_is_named_again() -> None:
    session = FetchSession()
    assert session.ask(request({"a": {0: 5, 1: 5}, "b": {0: 1}}), OWNER)[:2] == (0, 0)
    session.answered(0, 7)
    assert session.ask(request({"b": {0: 1}, "a": {1: 6, 0: 5}}), OWNER) == (7, 1, [("a", [(1, 6, 9)])], ())
    session.answered(0, 7)
    assert session.ask(request({"b": {0: 1}, "a": {1: 6, 0: 5}}), OWNER) == (7, 2, [], ())


def test_what_is_not_wanted_now_is_forgotten_and_named_when_it_is_wanted_again() -> None:
    session = FetchSession()
    session.ask(request({"a": {0: 5, 1: 5}, "b": {0: 1}}), OWNER)
    session.answered(0, 7)
    assert session.ask(request({"a": {1: 5}}), OWNER) == (7, 1, [], [("a", [0]), ("b", [0])])
    session.answered(0, 7)
    assert session.ask(request({"a": {0: 5, 1: 5}}), OWNER) == (7, 2, [("a", [(0, 5, 9)])], ())


def test_a_refused_session_is_closed_and_begun_anew() -> None:
    session = FetchSession()
    session.ask(request({"a": {0: 5}}), OWNER)
    session.answered(0, 7)
    session.ask(request({"a": {0: 5}}), OWNER)
    session.answered(INVALID_EPOCH, 0)
    assert session.ask(request({"a": {0: 5}}), OWNER) == (7, 0, request({"a": {0: 5}}), ())


def test_where_there_are_no_sessions_every_fetch_names_all() -> None:
    session = FetchSession()
    for _ in range(3):
        assert session.ask(request({"a": {0: 5}}), OWNER) == (0, 0, request({"a": {0: 5}}), ())
        session.answered(0, 0)


def test_epochs_begin_again_at_one() -> None:
    session = FetchSession()
    session.ask([], OWNER)
    session.answered(0, 7)
    session._epoch = 2**31 - 1
    session.ask([], OWNER)
    session.answered(0, 7)
    assert session.ask([], OWNER).epoch == 1
