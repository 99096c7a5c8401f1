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

from benchmarks import report, stack, workloads
from benchmarks.peers import promises, versions
from benchmarks.peers.missing import Missing
from benchmarks.settings import changed

SAVED_NAME = re.compile(r"[a-z0-9_-]+")
RESULTS = Path(__file__).with_name("results")
INTERRUPTED = 130
IDLE_SHARE = 0.1
"""Of the processors' time: with less in use the machine counts as idle."""
IDLE_LOOKS = 120

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
        yield _turn(module, settings, peer, peer_first=number % 2 == 1)
        longest, turn = max(longest, clock() - turn), clock()
        if turn - began + longest > within_seconds:
            break


def _turn(module: ModuleType, settings: report.Settings, peer: str | None, *, peer_first: bool) -> Turn:
    """Who runs first changes from turn to turn: what one leaves behind may slow the other.

    In the first turn it is the peer: if this machine lacks it, that is told before anything was measured.
    """
    if peer is None:
        return module.run(settings), None
    if peer_first:
        theirs = module.run(settings, peer)
        return module.run(settings), theirs
    ours = module.run(settings)
    return ours, module.run(settings, peer)


def wait_until_idle(*, busy: Callable[[], float] = report.busy_share) -> None:
    """Wait for what ran before, or IDLE_LOOKS looks at most of a second each."""
    if (now := busy()) < IDLE_SHARE:
        return
    print(
        f"processors busy: {now:.0%}; waiting for less than {IDLE_SHARE:.0%}, {IDLE_LOOKS} s at most", file=sys.stderr
    )
    for _ in range(IDLE_LOOKS):
        if busy() < IDLE_SHARE:
            return


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
        help="write the text to benchmarks/results as well, as NAME.txt or NAME-vs-PEER.txt, or with AS for NAME; "
        "it goes after NAME, and waits for an idle machine first",
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
    if options.save in names() and options.save != options.name:
        raise report.InvalidSetting(f"--save {options.save}: a workload is saved under that name, so choose another")
    if options.save and not SAVED_NAME.fullmatch(options.save):
        raise report.InvalidSetting(f"--save {options.save}: small letters, digits, - and _ only")
    peers = getattr(load(options.name), "PEERS", ())
    if options.vs is not None and options.vs not in peers:
        raise report.InvalidSetting(
            f"--vs {options.vs}: {options.name} is compared with {', '.join(peers) or 'nobody'}"
        )


def told(problem: Exception) -> str:
    """Type and text of an exception; of a task group's its first."""
    while isinstance(problem, ExceptionGroup):
        problem = problem.exceptions[0]
    return f"{type(problem).__name__}: {problem}"


def _end(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)  # so that what was started is ended


def main() -> int:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _end)
    parser = _parser()
    options = parser.parse_args()
    if options.name is None and options.save is not None:
        taken = f"{options.save!r} was taken as AS; " if options.save else ""
        parser.error(f"--save without a workload: {taken}write `NAME --save` or `NAME --save AS`")
    if options.name in (None, "LIST"):
        for name in names():
            print(f"{name:<10} {question(load(name))}")
        return 0
    with stack.own_environment():
        return _run(parser, options)


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Run a workload and tell its result; the exit code."""
    done: list[Turn] = []
    code = 0
    try:
        _check(options)
        module = load(options.name)
        settings = changed(options.name, module.SETTINGS, options.set, seconds=options.seconds)
        if options.save is not None:
            wait_until_idle()
        facts = report.circumstances()
        done.extend(turns(module, settings, options.vs, options.runs, within_seconds=options.within))
    except report.InvalidSetting as problem:
        parser.error(str(problem))
    except Missing as missing:
        print(f"{options.name} is skipped: {missing}", file=sys.stderr)
        return 0
    except Exception as problem:
        # Whatever it is (a limit that passed, a process that ended, a client's error): runs that were done are shown.
        code = 1
        print(f"{options.name} came to no end: {told(problem)}", file=sys.stderr)
    except KeyboardInterrupt:
        code = INTERRUPTED
    if not done:
        return code
    runs, peer = [ours for ours, _ in done], _compared(options.vs, done)
    text = report.as_text(options.name, question(module), settings, runs, peer, facts=facts)
    print(report.as_json(options.name, settings, runs, peer, facts=facts) if options.json else text)
    if options.save is not None and not code:
        RESULTS.mkdir(exist_ok=True)
        name = options.save or options.name
        (RESULTS / f"{name if peer is None else f'{name}-vs-{options.vs}'}.txt").write_text(text + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
