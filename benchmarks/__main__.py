"""`python -m benchmarks [NAME] [--vs PEER] [--runs N] [--seconds N] [--json] [--save]`: list workloads, or run one."""

from __future__ import annotations

import argparse
import importlib
import math
import pkgutil
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import NoReturn

from confluent_kafka import KafkaException

from benchmarks import report, workloads
from benchmarks.peers import promises, versions
from benchmarks.peers.missing import Missing
from benchmarks.settings import changed
from logqueue.errors import KafkaError

SAVED_NAME = re.compile(r"[a-z0-9_-]+")
RESULTS = Path(__file__).with_name("results")
INTERRUPTED = 130

Turn = tuple[report.Figures, report.Figures | None]
"""What a run of ours gave, and that of the peer beside it."""


def names() -> list[str]:
    """The workloads: one module each."""
    return sorted(module.name for module in pkgutil.iter_modules(workloads.__path__))


def load(name: str) -> ModuleType:
    """The module of a workload: a question as its docstring, SETTINGS, and run(settings) -> figures."""
    return importlib.import_module(f"benchmarks.workloads.{name}")


def question(module: ModuleType) -> str:
    """The first line of the workload's docstring."""
    return (module.__doc__ or "").splitlines()[0]


def turns(
    module: ModuleType,
    settings: report.Settings,
    peer: str | None,
    count: int,
    *,
    within_seconds: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Turn]:
    """Run a workload and its peer in turns: `count` times, or fewer if a further turn would probably end too late.

    Raises Missing where this machine lacks what it takes.
    """
    began = turn = clock()
    longest = 0.0
    for number in range(1, count + 1):
        print(f"run {number} of {count}", file=sys.stderr)
        # The peer first: if this machine lacks it, that is told before anything was measured.
        theirs = module.run(settings, peer) if peer is not None else None
        yield module.run(settings), theirs
        longest, turn = max(longest, clock() - turn), clock()
        if turn - began + longest > within_seconds:
            break


def _compared(peer: str | None, done: Sequence[Turn]) -> report.Compared | None:
    if peer is None:
        return None
    runs = [theirs for _, theirs in done if theirs is not None]
    return report.Compared(name=peer, runs=runs, version=versions.of_peer(peer), promises=promises.told(peer))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", help="the workload; none, or LIST, lists them")
    parser.add_argument("--vs", metavar="PEER", help="run a peer in turns with ours, and show the ratios")
    parser.add_argument("--runs", type=int, default=5, help="how often it runs (default 5)")
    parser.add_argument(
        "--within",
        type=float,
        default=math.inf,
        metavar="SECONDS",
        help="fewer runs if they would take longer",
    )
    parser.add_argument("--seconds", type=int, help="how long it measures, for workloads that are bound by time")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a setting")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--save",
        nargs="?",
        const="",
        metavar="AS",
        help="write the text to benchmarks/results as well, as NAME.txt or NAME-vs-PEER.txt, or with AS for NAME",
    )
    return parser


def _check(options: argparse.Namespace) -> None:
    """Raises InvalidSetting for what cannot be run."""
    if options.name not in names():
        raise report.InvalidSetting(f"there is no workload {options.name!r}; there are: {', '.join(names())}")
    if options.runs < 1:
        raise report.InvalidSetting("--runs: at least one")
    if not options.within > 0:
        raise report.InvalidSetting(f"--within {options.within:g}: more than 0 s")
    if options.save and not SAVED_NAME.fullmatch(options.save):
        raise report.InvalidSetting(f"--save {options.save}: small letters, digits, - and _ only")
    peers = getattr(load(options.name), "PEERS", ())
    if options.vs is not None and options.vs not in peers:
        raise report.InvalidSetting(
            f"--vs {options.vs}: {options.name} is compared with {', '.join(peers) or 'nobody'}"
        )


def _end(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)  # so that what was started is ended


def main() -> int:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _end)
    parser = _parser()
    options = parser.parse_args()
    if options.name in (None, "LIST"):
        for name in names():
            print(f"{name:<10} {question(load(name))}")
        return 0
    done: list[Turn] = []
    code = 0
    try:
        _check(options)
        module = load(options.name)
        settings = changed(options.name, module.SETTINGS, options.set, seconds=options.seconds)
        done.extend(turns(module, settings, options.vs, options.runs, within_seconds=options.within))
    except report.InvalidSetting as problem:
        parser.error(str(problem))
    except Missing as missing:
        print(f"{options.name} is skipped: {missing}", file=sys.stderr)
        return 0
    except (RuntimeError, OSError, KafkaError, KafkaException) as problem:
        # A limit that passed, a process that ended, an address that answers no more, a version nobody has.
        code = 1
        print(f"{options.name} came to no end: {problem}", file=sys.stderr)
    except KeyboardInterrupt:
        code = INTERRUPTED
    if not done:
        return code
    runs, peer = [ours for ours, _ in done], _compared(options.vs, done)
    text = report.as_text(options.name, question(module), settings, runs, peer)
    print(report.as_json(options.name, settings, runs, peer) if options.json else text)
    if options.save is not None and not code:
        RESULTS.mkdir(exist_ok=True)
        name = options.save or options.name
        (RESULTS / f"{name if peer is None else f'{name}-vs-{options.vs}'}.txt").write_text(text + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
