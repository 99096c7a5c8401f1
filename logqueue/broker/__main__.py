"""`python -m logqueue.broker`: the embedded broker as a process of its own."""

from __future__ import annotations

import sys

from logqueue.broker.command import main

if __name__ == "__main__":
    sys.exit(main())
