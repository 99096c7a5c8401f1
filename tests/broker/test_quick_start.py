"""What a broker's process does without while it starts, and that it harms nobody who embeds a broker."""

from __future__ import annotations

import subprocess
import sys

PROBE = """
import gc, sys
from logqueue.broker import quick_start
{before}
quick_start.begin()
collects = gc.isenabled()
import asyncio, logqueue.broker.command
print("ssl" in sys.modules, asyncio.sslproto.ssl is None, collects)
quick_start.end()
import ssl
print(gc.isenabled(), ssl.OPENSSL_VERSION_INFO > (1,))
"""


def probed(before: str = "") -> list[list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(before=before)], capture_output=True, text=True, check=True
    )
    return [line.split() for line in done.stdout.splitlines()]


def test_a_broker_starts_without_ssl_and_without_collecting_and_can_have_both_later() -> None:
    assert probed() == [["False", "True", "False"], ["True", "True"]]


def test_where_asyncio_is_in_use_already_it_keeps_ssl_and_the_collector_goes_on() -> None:
    assert probed("import asyncio") == [["True", "False", "True"], ["True", "True"]]
