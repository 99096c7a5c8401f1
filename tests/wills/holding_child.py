"""A process that makes a will, says so, and lives until it is killed."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from logqueue_consumers.wills import will_file

if __name__ == "__main__":
    file = will_file.create(Path(sys.argv[1]), sys.argv[2])
    file.write(b"something\n")
    print("ready", flush=True)
    signal.pause()
