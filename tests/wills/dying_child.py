"""A worker of one queue whose group and log would wait two minutes for it: what comes sooner is not theirs."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

from tests.consumers.exactly_once import frozen_child

WAIT_MS = 120_000
frozen_child.LIMITS = replace(frozen_child.LIMITS, session_timeout_ms=WAIT_MS, transaction_timeout_ms=WAIT_MS)

if __name__ == "__main__":
    asyncio.run(frozen_child.main(*sys.argv[1:]))
