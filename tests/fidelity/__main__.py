"""The long form of the comparison: `python -m tests.fidelity --seconds 600`. Prints seeds, and the first finding."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.fidelity import actions
from tests.fidelity.checking import search
from tests.fidelity.engines import both
from tests.fidelity.steps import ACTIONS

EXIT_DIFFERENT = 1


def main() -> int:
    """Read the command line and compare until the time is over or a difference is found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fidelity", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--length", type=int, default=80, help="steps of a script")
    parser.add_argument("--actions", default="", help=f"only these, with commas: {', '.join(ACTIONS)}")
    parser.add_argument("--rooms", default="", help=f"only the actions of these files: {', '.join(actions.__all__)}")
    parser.add_argument("--ours", help="address of a running broker of ours")
    parser.add_argument("--theirs", help="address of a running Apache Kafka")
    parser.add_argument("--go-on", action="store_true", help="do not stop at the first difference")
    arguments = parser.parse_args()
    names = frozenset(filter(None, arguments.actions.split(",")))
    for room in filter(None, arguments.rooms.split(",")):
        names |= {n for n, a in ACTIONS.items() if a.run.__module__ == f"tests.fidelity.actions.{room}"}
    deadline, seed, total, findings = time.monotonic() + arguments.seconds, arguments.seed, 0, 0
    with (
        tempfile.TemporaryDirectory(prefix="fidelity-") as folder,
        both(Path(folder), ours=arguments.ours, theirs=arguments.theirs) as (ours, theirs),
    ):
        while time.monotonic() < deadline:
            print(f"seed {seed}", flush=True)
            left = deadline - time.monotonic()
            done, finding = search(
                ours, theirs, start=seed, length=arguments.length, seconds=min(left, 60), names=names or None
            )
            total, seed = total + done, seed + 1
            if finding is not None:
                findings += 1
                print(finding, flush=True)
                if not arguments.go_on:
                    break
    print(f"{total} scripts of {arguments.length} steps, {findings} with a difference")
    return EXIT_DIFFERENT if findings else 0


if __name__ == "__main__":
    sys.exit(main())
