"""Lines of the Kafka client on standard error: in the form of our own, and no warning of what is ordinary."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

LINES = """
import logging
from logqueue_api.cli.log_lines import configure
configure({level!r})
log = logging.getLogger("aiokafka.consumer.group_coordinator")
log.warning("Heartbeat failed for group %s because it is rebalancing", "shop")
log.warning("Heartbeat failed: %s", "the session has expired")
"""


@pytest.mark.parametrize(("level", "shown"), [("info", ["Heartbeat failed: the session has expired"]), ("debug", None)])
def test_a_rebalance_is_no_warning(level: str, shown: list[str] | None) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LINES.format(level=level)], capture_output=True, text=True, timeout=30, check=True
    )
    lines = done.stderr.splitlines()
    if shown is not None:
        assert [line.rpartition("group_coordinator: ")[2] for line in lines] == shown
    else:
        assert "[DEBUG]" in lines[0] and "[WARNING]" in lines[1]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[", line) for line in lines)
