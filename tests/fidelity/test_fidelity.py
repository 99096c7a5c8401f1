"""The fast slice of the comparison with Apache Kafka: the same seeds, the same scripts, every time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import Engine
from tests.fidelity import actions
from tests.fidelity.checking import search
from tests.fidelity.running import Log
from tests.fidelity.steps import ACTIONS

SEED = 20_261_122
LENGTH = 50
SECONDS_MAX = 100.0  # far above what is needed: the number of scripts decides

# Which parts of the protocol meet in a script, and how many scripts of them.
MIXES = {
    "topics and configs": (("topics", "configs"), 3),
    "records": (("records", "topics"), 5),
    "classic groups": (("groups", "offsets"), 12),
    "consumer groups": (("consumer_groups", "groups", "offsets"), 6),
    "transactions": (("transactions", "records", "offsets"), 8),
    "everything": (tuple(actions.__all__), 4),
}


@pytest.mark.parametrize("mix", MIXES)
def test_scripted_clients_see_what_apache_kafka_shows_them(mix: str, start_engine: Callable[[str], Engine]) -> None:
    ours, theirs = (Log(name, start_engine(name).bootstrap) for name in ("embedded", "apache"))
    rooms, count = MIXES[mix]
    modules = {f"{actions.__name__}.{room}" for room in rooms}
    names = frozenset(name for name, action in ACTIONS.items() if action.run.__module__ in modules)
    _, finding = search(ours, theirs, start=SEED, count=count, length=LENGTH, seconds=SECONDS_MAX, names=names)
    assert finding is None, str(finding)
