"""The fixtures of the worker's tests."""

from tests.consumers.conftest import log

__all__ = ["log"]
