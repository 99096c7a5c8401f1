"""Running one script against two logs, and telling where their answers differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

from tests.fidelity.allowed import allowance
from tests.fidelity.messages import Plain
from tests.fidelity.session import Session
from tests.fidelity.steps import ACTIONS, Step

# Apache Kafka's metadata reaches its parts one after the other.
SETTLE_SECONDS = {"embedded": 0.0, "apache": 0.02}
OWN_TOPICS = ("t0", "t1", "t2", "t3")
TOPICS = {"t0": (3, {}), "t1": (1, {"cleanup.policy": "compact"})}


@dataclass(frozen=True, slots=True)
class Log:
    """A log under comparison."""

    name: str
    bootstrap: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What a client saw of one step: its own answer, and those that members were waiting for."""

    answer: Plain
    others: dict[str, Plain]


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two logs answered a step differently."""

    step: Step
    path: str
    ours: Plain
    theirs: Plain

    def __str__(self) -> str:
        return f"{self.step}\n    {self.path}: ours {self.ours!r}, Apache Kafka {self.theirs!r}"


def observe(log: Log, script: list[Step], prefix: str, expected: list[Observation] | None = None) -> list[Observation]:
    """Run a script and give what a client sees. `expected` is what the other log showed: its waits become sure."""
    session = Session(log.bootstrap, prefix, settle_seconds=SETTLE_SECONDS[log.name])
    seen: list[Observation] = []
    try:
        _prepare(session)
        for number, step in enumerate(script):
            session.step = number + 1
            answer = ACTIONS[step.action].run(session, **dict(step.arguments))
            awaited = frozenset(expected[number].others) if expected is not None else None
            seen.append(Observation(answer, session.collect(awaited)))
    finally:
        _clean(session)
        session.close()
    return seen


def _clean(session: Session) -> None:
    """Leave no topics behind: a log with thousands of them is slow."""
    names = [{"name": session.name(slot)} for slot in OWN_TOPICS]
    session.ask("delete_topics", 6, topics=names, timeout_ms=10_000)


def _prepare(session: Session) -> None:
    for topic, (partitions, configs) in TOPICS.items():
        wanted = {"name": session.name(topic), "num_partitions": partitions, "replication_factor": 1}
        wanted["configs"] = [{"name": name, "value": value} for name, value in configs.items()]
        session.ask("create_topics", 7, topics=[wanted], timeout_ms=30_000)
        session.settle_topic(topic, partitions=partitions)
    for kind in (0, 1):  # Coordinators' topics are made when they are first looked for.
        session.ask("find_coordinator", 4, key_type=kind, coordinator_keys=[session.name("g0")])


def compare(ours: Log, theirs: Log, script: list[Step]) -> list[Difference]:
    """The differences of the first step that has any which no reason allows, seen twice in a row."""
    prefix = f"f{uuid4().hex[:10]}"
    mine = observe(ours, script, prefix + "a")
    kafka = observe(theirs, script, prefix + "a", mine)
    if not differences(script, mine, kafka):
        return []
    # Once more, each waiting for what the other showed: what only the clock did is gone.
    kafka = observe(theirs, script, prefix + "b", mine)
    mine = observe(ours, script, prefix + "b", kafka)
    return differences(script, mine, kafka)


def differences(script: list[Step], ours: list[Observation], theirs: list[Observation]) -> list[Difference]:
    """Those of the first step that has any that no reason allows."""
    for number, (step, mine, kafka) in enumerate(zip(script, ours, theirs, strict=True)):
        pairs = [("answer", mine.answer, kafka.answer)]
        for member in sorted(mine.others.keys() | kafka.others.keys()):
            missing = "<waits>"
            pairs.append((f"answer of {member}", mine.others.get(member, missing), kafka.others.get(member, missing)))
        found = [
            Difference(step, where, a, b) for name, left, right in pairs for where, a, b in _unequal(name, left, right)
        ]
        reasons = [allowance(step, each.path, each.ours, each.theirs, script[: number + 1]) for each in found]
        refused = [difference for difference, reason in zip(found, reasons, strict=True) if reason is None]
        if any(reason is not None and reason.parts for reason in reasons):
            return []
        if refused:
            return refused
    return []


def _unequal(path: str, ours: Plain, theirs: Plain) -> Iterator[tuple[str, Plain, Plain]]:
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        for name, value in ours.items():
            yield from _unequal(f"{path}.{name}", value, theirs[name])
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (mine, kafka) in enumerate(zip(ours, theirs, strict=True)):
            label = mine.get("name", number) if isinstance(mine, dict) else number
            yield from _unequal(f"{path}[{label}]", mine, kafka)
    elif ours != theirs:
        yield path, ours, theirs
