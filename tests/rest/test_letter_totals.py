"""Dead letters are counted anew only where their topic, or what operators did, has changed."""

from __future__ import annotations

from collections.abc import Mapping

from logqueue_api.rest.letter_totals import LetterTotals
from logqueue_consumers.letters.counts import LetterCount

from logqueue.ids import TopicPartition
from logqueue.jobs.topics import TopicNames, TopicRole
from tests.loops import in_loop

NAMES = TopicNames()
MAIL, PUSH = NAMES.dlq("mail", "shop"), NAMES.dlq("push", "shop")
ROLES = {topic: role for topic in (MAIL, PUSH) if (role := NAMES.role(topic)) is not None}


class Counting:
    """Counts what it is asked for, and remembers it."""

    def __init__(self) -> None:
        self.totals = LetterTotals()
        self.asked: list[list[str]] = []

    async def count(self, topics: Mapping[str, TopicRole]) -> Mapping[str, LetterCount]:
        self.asked.append(sorted(topics))
        number = len(self.asked)
        return {topic: LetterCount(offsets=number, letters=number, open=number) for topic in topics}

    async def look(self, *, mail: int, control: int, roles: Mapping[str, TopicRole] = ROLES) -> dict[str, int]:
        ends = {MAIL: mail, PUSH: 1, NAMES.control: control}
        extents = {TopicPartition(topic, 0): (0, end) for topic, end in ends.items()}
        found = await self.totals.counts(roles, extents, control=NAMES.control, count=self.count)
        return {topic: count.offsets for topic, count in found.items()}


@in_loop
async def test_only_what_has_changed_is_counted_again() -> None:
    counting = Counting()
    assert await counting.look(mail=1, control=1) == {MAIL: 1, PUSH: 1}
    assert await counting.look(mail=1, control=1) == {MAIL: 1, PUSH: 1}
    assert await counting.look(mail=2, control=1) == {MAIL: 2, PUSH: 1}
    assert await counting.look(mail=2, control=2) == {MAIL: 3, PUSH: 3}, "commands may have closed letters anywhere"
    assert counting.asked == [[MAIL, PUSH], [MAIL], [MAIL, PUSH]]


@in_loop
async def test_a_topic_that_is_gone_is_forgotten() -> None:
    counting = Counting()
    await counting.look(mail=1, control=1)
    assert await counting.look(mail=1, control=1, roles={PUSH: ROLES[PUSH]}) == {PUSH: 1}
    assert await counting.look(mail=1, control=1) == {MAIL: 2, PUSH: 1}
