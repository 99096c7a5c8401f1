"""`python -m benchmarks [NAME] [--vs PEER] [--runs N] [--seconds N] [--json] [--save]`: list workloads, or run one."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
import sys
from pathlib import Path
from types import ModuleType

from benchmarks import report, workloads
from benchmarks.peers.missing import Missing
from tests.engines.apache import EngineMissing

RESULTS = Path(__file__).with_name("results")


def names() -> list[str]:
    """The workloads: one module each."""
    return sorted(module.name for module in pkgutil.iter_modules(workloads.__path__))


def load(name: str) -> ModuleType:
    """The module of a workload: a question as its docstring, SETTINGS, and run(settings) -> figures."""
    return importlib.import_module(f"benchmarks.workloads.{name}")


def question(module: ModuleType) -> str:
    """The first line of the workload's docstring."""
    return (module.__doc__ or "").splitlines()[0]


def measure(
    module: ModuleType, settings: report.Settings, peer: str | None, count: int
) -> tuple[list[report.Figures], list[report.Figures]]:
    """Run a workload and its peer in turns. Raises Missing where this machine lacks what it takes."""
    runs, peer_runs = [], []
    for number in range(count):
        print(f"run {number + 1} of {count}", file=sys.stderr)
        runs.append(module.run(settings))
        if peer is not None:
            try:
                peer_runs.append(module.run(settings, peer))
            except EngineMissing as missing:
                raise Missing(str(missing)) from missing
    return runs, peer_runs


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", help="the workload; none, or LIST, lists them")
    parser.add_argument("--vs", metavar="PEER", help="run a peer in turns with ours, and show the ratios")
    parser.add_argument("--runs", type=int, default=5, help="how often it runs (default 5)")
    parser.add_argument("--seconds", type=int, help="how long it measures, for workloads that are bound by time")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a setting")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--save", action="store_true", help="write the text to benchmarks/results as well")
    options = parser.parse_args()
    if options.name in (None, "LIST"):
        for name in names():
            print(f"{name:<10} {question(load(name))}")
        return 0
    if options.name not in names():
        parser.error(f"there is no workload {options.name!r}; there are: {', '.join(names())}")
    module = load(options.name)
    settings = dict(module.SETTINGS)
    if options.seconds is not None:
        if "seconds" not in settings:
            parser.error(f"--seconds: {options.name} is not bound by time, but by {report.settings_text(settings)}")
        settings["seconds"] = options.seconds
    for change in options.set:
        name, _, value = change.partition("=")
        is_text = isinstance(settings.get(name), str)
        if name not in settings or not (is_text or re.fullmatch(r"-?[0-9]+", value)):
            parser.error(f"--set {change}: settings of {options.name} are {report.settings_text(settings)}")
        settings[name] = value if is_text else int(value)
    peers = getattr(module, "PEERS", ())
    if options.vs is not None and options.vs not in peers:
        parser.error(f"--vs {options.vs}: {options.name} is compared with {', '.join(peers) or 'nobody'}")
    try:
        runs, peer_runs = measure(module, settings, options.vs, options.runs)
    except Missing as missing:
        print(f"{options.name} is skipped: {missing}", file=sys.stderr)
        return 0
    peer = (options.vs, peer_runs) if options.vs is not None else None
    text = report.as_text(options.name, question(module), settings, runs, peer)
    print(report.as_json(options.name, settings, runs, peer) if options.json else text)
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        name = options.name if peer is None else f"{options.name}-vs-{options.vs}"
        (RESULTS / f"{name}.txt").write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
