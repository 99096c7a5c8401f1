"""The pytest plugin of the package: fixtures of logs, labs and cases. Imports nothing heavy until asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from logqueue_consumers.lab.job_lab import JobLab

    from logqueue.testing.cases import Case
    from logqueue.testing.embedded import EmbeddedBroker


@pytest.fixture
def logqueue_broker() -> Iterator[EmbeddedBroker]:
    """A fresh Kafka-protocol broker for one test; `logqueue_broker.bootstrap` is the address for any client.

    It keeps everything in a temporary folder and does not wait for the disk.
    """
    from logqueue.testing.embedded import EmbeddedBroker

    with EmbeddedBroker(fsync=False) as broker:
        yield broker


@pytest.fixture(scope="session")
def logqueue_lab_broker() -> Iterator[EmbeddedBroker]:
    """The broker that all labs of a session share."""
    from importlib import import_module

    with import_module("logqueue_consumers.lab.job_lab").lab_broker() as broker:
        yield broker


@pytest.fixture
def logqueue_lab(logqueue_lab_broker: EmbeddedBroker) -> Callable[..., JobLab]:
    """Makes a lab of an app: `async with logqueue_lab(app) as lab`, with topics of its own; see `JobLab`."""
    from logqueue.testing import JobLab

    return partial(JobLab, bootstrap=logqueue_lab_broker.bootstrap)


@pytest.fixture
def logqueue_case() -> Callable[[str | Path], Case]:
    """Loads a file of `logqueue export` with one job: `logqueue_case("case.jsonl").run(app)` runs its handler."""
    from logqueue.testing.cases import load_case

    return load_case


@pytest.fixture
def logqueue_cases() -> Callable[[str | Path], list[Case]]:
    """Loads a file of `logqueue export` with any number of jobs."""
    from logqueue.testing.cases import load_cases

    return load_cases
