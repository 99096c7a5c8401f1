"""`python -m logqueue.broker`: the embedded broker as a process of its own."""

from __future__ import annotations

import sys

from logqueue.broker import quick_start

if __name__ == "__main__":
    quick_start.begin()
    from logqueue.broker.command import main

    sys.exit(main())
