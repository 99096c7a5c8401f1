"""Fixtures of the crash tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.scratch import fast_folder


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A fresh folder in memory."""
    with fast_folder() as folder:
        yield folder


@pytest.fixture
def quiet() -> Iterator[None]:
    """Thousands of recoveries say what they cut; nobody reads it."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
