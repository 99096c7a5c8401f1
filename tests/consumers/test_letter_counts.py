"""Dead letters are counted: not the markers behind them, not those that are closed, not more than a bound."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaProducer
from logqueue_consumers.letters import counts
from logqueue_consumers.letters.counts import LetterCount, count_letters
from logqueue_consumers.letters.dead_letters import DeadLetters, LetterFilter

from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.topics import TopicRole
from tests.consumers.conftest import Log
from tests.loops import in_loop

HEADERS = [("ce_type", b"mail.send"), ("job-error-type", b"Bounced"), ("job-error-class", b"permanent")]


async def bury(log: Log, *ids: str) -> dict[str, TopicRole]:
    """One letter in each transaction, and a topic of another queue that has none."""
    names = log.settings.topics
    specs = [spec for queue in ("mail", "push") for spec in names.group_specs(queue, "shop", partitions=1)]
    await ensure_topics(log.settings, [*names.shared_specs(), *specs])
    async with AIOKafkaProducer(bootstrap_servers=log.settings.bootstrap, transactional_id=log.name) as producer:
        for id_ in ids:
            async with producer.transaction():
                await producer.send(names.dlq("mail", "shop"), b"{}", headers=[*HEADERS, ("ce_id", id_.encode())])
    roles = {topic: names.role(topic) for topic in (names.dlq("mail", "shop"), names.dlq("push", "shop"))}
    return {topic: role for topic, role in roles.items() if role is not None}


@in_loop
async def test_letters_are_counted_and_those_that_are_open(log: Log) -> None:
    topics = await bury(log, "one", "two", "three")
    mail, push = topics
    letters = DeadLetters(log.settings, queue="mail", group="shop")
    await letters.discard(LetterFilter(ids=frozenset({"two"})), by="ann")
    assert await count_letters(log.settings, topics) == {
        mail: LetterCount(offsets=6, letters=3, open=2),
        push: LetterCount(offsets=0, letters=0, open=0),
    }
    assert await count_letters(log.settings, {f"{mail}-gone": topics[mail]}) == {}


@in_loop
async def test_a_topic_that_is_too_long_is_not_read_for_a_count(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    topics = await bury(log, "one", "two")
    mail, push = topics
    monkeypatch.setattr(counts, "MAX_COUNTED", 3)
    assert await count_letters(log.settings, topics) == {
        mail: LetterCount(offsets=4, letters=None, open=None),
        push: LetterCount(offsets=0, letters=0, open=0),
    }
    monkeypatch.setattr(counts, "MAX_COUNTED", 4)
    monkeypatch.setattr(counts, "MAX_COUNTED_BYTES", 3)
    assert (await count_letters(log.settings, topics))[mail].open is None, "the second letter is one byte too many"
