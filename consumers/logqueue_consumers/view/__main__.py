"""`python -m logqueue_consumers.view`: the fold as a process."""

from __future__ import annotations

import sys

from logqueue_consumers.view.process import main

if __name__ == "__main__":
    sys.exit(main())
