"""Fixtures that every room of tests shares: the Kafka engines and unique names on them."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog

from tests.engines import apache, embedded
from tests.engines import node_clients as node
from tests.engines.shared import SharedServers

WORKERS_PER_CORE, WORKERS_MAX = 2, 8
"""Processes of a whole run: most tests that take long wait for something, and all share one Apache Kafka."""
SERVERS = pytest.StashKey[SharedServers]()

_numbers = count(1)

# The same examples in every run, however long a busy machine takes over one: no test fails by chance. `make soak` and
# `make fidelity` look further, with seeds.
hypothesis.settings.register_profile(
    "deterministic", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("deterministic")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """What `-n auto` means here."""
    return min(WORKERS_PER_CORE * (os.cpu_count() or 1), WORKERS_MAX)


def pytest_sessionstart(session: pytest.Session) -> None:
    """A shell ignores Ctrl-C in what it runs in the background, and processes inherit that; some tests send it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """No fixture's end: it may wait for other processes, and no test is to be charged for that."""
    servers = session.config.stash.get(SERVERS, None)
    if servers is not None:
        servers.close()


@pytest.fixture
def collected() -> Iterator[None]:
    """Garbage of the test is collected before the next one begins."""
    yield
    gc.collect()


@dataclass(frozen=True, slots=True)
class Engine:
    """A running log that speaks the Kafka protocol."""

    name: str
    bootstrap: str


def _selected() -> list[str]:
    return os.environ.get("LOGQUEUE_TEST_ENGINES", "embedded,apache").split(",")


def missing(reason: str) -> None:
    """Skip with the reason where an extra is absent; in CI, which installs it, fail."""
    if apache.required():
        pytest.fail(f"CI must have this: {reason}")
    pytest.skip(reason)


StartEngine = Callable[[str], Engine]


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SharedServers:
    """Servers that take a while to start: one of each for all processes of the run."""
    own = tmp_path_factory.getbasetemp()
    is_one_of_many = hasattr(request.config, "workerinput")
    request.config.stash[SERVERS] = found = SharedServers(own.parent if is_one_of_many else own)
    return found


@pytest.fixture(scope="session")
def start_engine(tmp_path_factory: pytest.TempPathFactory, servers: SharedServers) -> Iterator[StartEngine]:
    """Gives a Kafka engine by name, started when it is first asked for and kept for the session.

    Apache Kafka is one for all processes of the run, ours one for each.
    """
    running: dict[str, Engine] = {}
    with ExitStack() as stack:

        def start(name: str) -> Engine:
            if name not in _selected():
                pytest.skip(f"LOGQUEUE_TEST_ENGINES leaves out {name}")
            if name not in running:
                folder = tmp_path_factory.mktemp(name)
                try:
                    if name == "apache":
                        bootstrap = servers.address(name, lambda: apache.apache_kafka(folder))
                    else:
                        bootstrap = stack.enter_context(embedded.embedded(folder))
                    running[name] = Engine(name, bootstrap)
                except apache.EngineMissing as error:
                    missing(str(error))
            return running[name]

        yield start


@pytest.fixture(scope="session", params=["embedded", "apache"])
def engine(request: pytest.FixtureRequest, start_engine: StartEngine) -> Engine:
    """Each Kafka engine this machine can run, started once per session."""
    return start_engine(request.param)


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where workers keep what they can read again: never the cache folder of whoever runs the tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def no_log_settings_stay() -> Iterator[None]:
    """A command that a test runs in this process says where log lines go: into a stream that ends with the test."""
    configure = structlog.configure

    def configure_for_a_while(**settings: Any) -> None:
        configure(**settings | {"cache_logger_on_first_use": False})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", configure_for_a_while)
        yield
    structlog.reset_defaults()


@pytest.fixture
def prefix() -> str:
    """A name that no other test uses, for topics and groups on an engine that tests share."""
    return f"t{os.getpid()}x{next(_numbers)}"


@pytest.fixture(scope="session")
def kafka_class_path() -> str:
    """Class path of Apache Kafka's own tools (`kafka.tools.DumpLogSegments` and others)."""
    try:
        return apache.class_path()
    except apache.EngineMissing as error:
        missing(str(error))
        raise


@pytest.fixture
def repository() -> Path:
    """The root of this checkout."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def node_clients() -> Path:
    """The folder of the Node clients, installed as its lock file names them."""
    try:
        return node.folder()
    except apache.EngineMissing as error:
        missing(str(error))
        raise
