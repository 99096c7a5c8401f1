"""make soak ARGS="--minutes 60 --seed N --only kill": all long tests in turn, until the time is over or one fails.

Every turn has a seed of its own, which is printed; `--seed N --only KIND` begins with that turn again. At the first
anomaly the soak ends with 1, a description, and the folder in which everything was kept.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import time
import traceback
from pathlib import Path
from random import Random, SystemRandom
from tempfile import mkdtemp

from tests.crash.scratch import fast_folder
from tests.soak.kinds import PLACES, kind

TURN_SECONDS = 40.0
LEAST_SECONDS = 5.0
MAX_SEED = 1 << 31
MAX_MINUTES = 7 * 24 * 60
IN_MEMORY = ("power-cuts", "disk-errors", "damage", "simulation")
"""Kinds that need no real disk."""


def main() -> int:
    options = _options()
    logging.disable(logging.CRITICAL)  # the brokers in this process say what they cut, thousands of times
    seed: int = SystemRandom().randrange(MAX_SEED) if options.seed is None else options.seed
    names = options.only or list(PLACES)
    evidence: Path = options.evidence or Path(mkdtemp(prefix="logqueue-soak-"))
    evidence.mkdir(parents=True, exist_ok=True)
    print(f"soak of {options.minutes:g} minutes, seed {seed}: {', '.join(names)}", flush=True)
    until = time.monotonic() + options.minutes * 60
    turn = 0
    while until - time.monotonic() > LEAST_SECONDS or turn == 0:
        name = names[turn % len(names)]
        # The first turn has the soak's own seed, so that a turn that failed can be played again.
        turn_seed = seed if turn == 0 else Random(f"{seed} {turn}").randrange(MAX_SEED)
        seconds = min(TURN_SECONDS, max(until - time.monotonic(), LEAST_SECONDS))
        if not _play(name, turn_seed, seconds, evidence):
            return 1
        turn += 1
    if options.evidence is None:
        shutil.rmtree(evidence)
    print(f"nothing was found in {turn} turns, seed {seed}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long, about (default: 10)")
    parser.add_argument("--seed", type=int, default=None, help="seed of the first turn (default: a random one)")
    parser.add_argument("--only", action="append", choices=list(PLACES), help="this kind only; may be repeated")
    parser.add_argument("--evidence", type=Path, default=None, help="folder for what a failure leaves behind")
    options = parser.parse_args()
    if not 0 < options.minutes <= MAX_MINUTES:
        parser.error(f"--minutes must be above 0 and at most {MAX_MINUTES}")
    if options.seed is not None and not 0 <= options.seed < MAX_SEED:
        parser.error(f"--seed must be from 0 to {MAX_SEED - 1}")
    return options


def _play(name: str, seed: int, seconds: float, evidence: Path) -> bool:
    """One turn; False if it found something, which is then told and kept."""
    print(f"{name}, seed {seed} ...", end=" ", flush=True)
    started = time.monotonic()
    kept = evidence / f"{name}-{seed}"
    with fast_folder() as memory:
        folder = memory / name if name in IN_MEMORY else kept
        try:
            told = kind(name)(folder, seed=seed, seconds=seconds)
        except Exception as error:  # whatever ends a turn has to be seen: an anomaly, or a mistake of the test's own
            if folder != kept and folder.exists():
                shutil.copytree(folder, kept, dirs_exist_ok=True)
            kept.mkdir(parents=True, exist_ok=True)
            (kept / "error.txt").write_text(traceback.format_exc())
            print(f"FAILED after {time.monotonic() - started:.0f} s")
            print(f"{type(error).__name__}: {error}")
            print(f'everything is in {kept}; again: make soak ARGS="--only {name} --seed {seed}"')
            return False
    shutil.rmtree(kept, ignore_errors=True)
    print(f"{told} ({time.monotonic() - started:.0f} s)", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
