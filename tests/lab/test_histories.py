"""Whatever happened, every job has ended exactly once in the end, in its tenant's order, within its limits, not early.

Real workers, through the lab: on the embedded log with both kinds of processing, and on Apache Kafka, whose own time
goes on while that of the workers stands. A run is the same every time. LOGQUEUE_HISTORIES (a number) looks at more of
them, with a seed of its own that is printed, and LOGQUEUE_HISTORY_STEPS at longer ones. LOGQUEUE_HISTORY_SEED repeats
such a run, LOGQUEUE_HISTORY_SHRINK makes what fails smaller.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from logqueue_consumers.lab.job_lab import lab_broker

from tests.lab.machine import Histories

STEPS = int(os.environ.get("LOGQUEUE_HISTORY_STEPS", "24"))
MORE = int(os.environ.get("LOGQUEUE_HISTORIES", "0"))
SEED = os.environ.get("LOGQUEUE_HISTORY_SEED")
PHASES = (Phase.generate, Phase.shrink) if "LOGQUEUE_HISTORY_SHRINK" in os.environ else (Phase.generate,)
"""A history takes seconds: to make a failing one smaller takes more time than a test has."""


def check(count: int, **values: Any) -> None:
    """Look at `count` histories; `values` are those of the machine."""
    machine: Any = type("SharedHistories", (Histories,), values)
    if MORE:
        chosen = int(SEED) if SEED else secrets.randbits(32)
        print(f"LOGQUEUE_HISTORY_SEED={chosen}")
        machine = seed(chosen)(machine)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=MORE or count,
            stateful_step_count=STEPS,
            derandomize=not MORE,
            deadline=None,
            database=None,
            phases=PHASES,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(0 if MORE else 300)
@pytest.mark.parametrize("processing", ["exactly_once", "at_least_once"])
def test_whatever_happens_every_job_ends_once_in_order_within_its_limits(processing: str) -> None:
    with lab_broker() as broker:
        check(3, bootstrap=broker.bootstrap, processing=processing)


@pytest.mark.timeout(0 if MORE else 300)
@pytest.mark.parametrize("processing", ["exactly_once", "at_least_once"])
def test_the_same_holds_on_apache_kafka(start_engine: Callable[[str], Any], processing: str) -> None:
    check(1, bootstrap=start_engine("apache").bootstrap, processing=processing, is_in_past=True)
