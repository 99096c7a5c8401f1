"""`logqueue outbox run` in a process that tests kill."""

from __future__ import annotations

import sys

from logqueue_api.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
