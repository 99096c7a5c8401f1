"""Fixtures that every room of tests shares: the Kafka engines and unique names on them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import hypothesis
import pytest

from tests.engines import apache, embedded

NODE_MAJOR_MIN = 20
NPM_SECONDS = 100

_numbers = count(1)

# The same examples in every run: no test fails by chance. `make soak` and `make fidelity` look further, with seeds.
hypothesis.settings.register_profile("deterministic", derandomize=True)
hypothesis.settings.load_profile("deterministic")


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
def start_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartEngine]:
    """Gives a Kafka engine by name, started when it is first asked for and kept for the session."""
    running: dict[str, Engine] = {}
    with ExitStack() as stack:

        def start(name: str) -> Engine:
            if name not in _selected():
                pytest.skip(f"LOGQUEUE_TEST_ENGINES leaves out {name}")
            if name not in running:
                context = {"embedded": embedded.embedded, "apache": apache.apache_kafka}[name]
                try:
                    running[name] = Engine(name, stack.enter_context(context(tmp_path_factory.mktemp(name))))
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
    folder = Path(__file__).parent / "clients" / "node"
    if shutil.which("node") is None or shutil.which("npm") is None:
        missing("node and npm are not installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < NODE_MAJOR_MIN:
        missing(f"node {version} is older than {NODE_MAJOR_MIN}")
    if not (folder / "node_modules" / ".package-lock.json").exists():
        done = subprocess.run(["npm", "ci"], cwd=folder, capture_output=True, text=True, timeout=NPM_SECONDS)
        if done.returncode:
            missing(f"npm ci failed in {folder}:\n{done.stderr[-2000:]}")
    return folder
