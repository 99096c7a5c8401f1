"""Killed workers of a lab have closed nothing: what they leave is let go of before the next test, and no fault."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

# The lab lets go of it at its end, but Python may come across it before.
LEFT_OPEN = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(LEFT_OPEN)


@pytest.fixture(autouse=True)
def bury(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """pytest keeps what is logged, and with an error all that it happened to: connections of hundreds of the killed."""
    for name in ("aiokafka", "asyncio"):
        caplog.set_level(logging.CRITICAL + 1, logger=name)
    yield
    with warnings.catch_warnings():  # a test's own variables held on to them until now
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
