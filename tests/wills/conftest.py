"""The same log as the consumers' tests have."""

from __future__ import annotations

from tests.consumers.conftest import log

__all__ = ["log"]
