"""librdkafka's own test suite against a running log: `python -m tests.suites.librdkafka`.

Each number of the suite runs in a process of its own with a time limit, against a fresh broker (or the one that
`--bootstrap` names), and the outcome is one table: passed, failed, skipped, each with its reason.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.engines import apache
from tests.suites.kafka_tools import write_tools
from tests.suites.librdkafka_build import Case, SuiteMissing, built, declared
from tests.suites.secured import MECHANISMS, PROTOCOLS, Log, secured_log

# The suite's default scenario gives topics four partitions (tests/scenarios/default.json). Its cluster has an
# authorizer that forbids nothing until a test writes an ACL. Consumers that are started together belong into one
# generation, as with Kafka's default of 3 s: 0118 counts on it.
SETTINGS = {
    "group.initial.rebalance.delay.ms": "500",
    "num.partitions": "4",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
SCENARIOS = {"default": SETTINGS, "noautocreate": SETTINGS | {"auto.create.topics.enable": "false"}}
BROKER_VERSION = "4.2.0.0"
LIMIT_SECONDS = 900  # 0113 in full takes 520 s on a busy machine of two cores
TIME_FACTOR = 2  # tests that run four Java programs within their time limit of 20 s need more on two cores
EXIT_OK, EXIT_FAILED, EXIT_MISSING = 0, 1, 3

# What one plain node cannot be judged by, and why. The number stands for all tests that share it.
NOT_RUN = {
    "0016": "reads the client's name from a second broker's JMX",
    "0028": "the suite marks it as failing by a defect of its own (long topic names)",
    "0047": "the suite marks it as failing by a defect of its own",
    "0079": "the suite marks it as failing by a defect of its own (fork)",
    "0101": "fetches from followers: needs three brokers",
}
SHARE_GROUPS = "share groups (KIP-932) are not served"

_SUMMARY = re.compile(r"^\|\s*(\w+)\s*\|\s*(\w[\w ]*?)\s*\|\s*([\d.]+)s\s*\|[ ]?(.*)$", re.M)
_FAILURE = re.compile(r'^### Test "([^"]+)" failed at ([^:]+:\d+).*\n(.*)$', re.M)
_COLOURS = re.compile(r"\x1b\[\d*m")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one test; `reason` is empty if it passed."""

    name: str
    state: str
    seconds: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How tests are run."""

    tests: Path
    quick: bool
    limit_seconds: float
    group_protocol: str
    client_settings: tuple[str, ...]
    environment: dict[str, str]
    logs: Path


def why_not(case: Case) -> str | None:
    """Why a case is left out, if it is."""
    if "_share_consumer_" in case.name:
        return SHARE_GROUPS
    return NOT_RUN.get(case.number)


def run_number(run: Run, number: str, scenario: str, cases: list[Case], log: Log) -> list[Outcome]:
    """Run the cases that share a number, in one process that is ended at the time limit."""
    folder = Path(tempfile.mkdtemp(prefix=f"rdk-{number}-"))
    conf = folder / "test.conf"
    settings = [f"metadata.broker.list={log.bootstrap}", f"test.timeout.multiplier={TIME_FACTOR}"]
    settings += [*log.client_settings, *run.client_settings]
    conf.write_text("\n".join((*settings, "")))
    environment = os.environ | run.environment
    # The version is not given as an option: the runner frees the option's text at its end and crashes.
    environment |= {
        "TEST_KAFKA_VERSION": BROKER_VERSION,
        "TESTS": number,
        "RDKAFKA_TEST_CONF": str(conf),
        "BROKERS": log.tools_bootstrap,
        "TEST_LEVEL": "2",
    }
    environment["LD_LIBRARY_PATH"] = f"{run.tests.parent}/src:{run.tests.parent}/src-cpp"
    if run.group_protocol != "classic":
        environment["TEST_CONSUMER_GROUP_PROTOCOL"] = run.group_protocol
    environment.pop("CI", None)  # the suite leaves tests out where it is set
    options = ["-L", "-p1", "-s", scenario, *(["-Q"] if run.quick else [])]
    told = run.logs / f"{number}-{scenario}.log"
    started = time.monotonic()
    with told.open("wb") as output:
        runner = subprocess.Popen(
            ["./test-runner", *options],
            cwd=run.tests,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            ended = f"ended with {runner.wait(run.limit_seconds)}"
        except subprocess.TimeoutExpired:
            os.killpg(runner.pid, signal.SIGKILL)
            runner.wait()
            ended = f"was ended after {run.limit_seconds:.0f} s"
    return list(_outcomes(told.read_text(errors="replace"), cases, ended, time.monotonic() - started))


def _outcomes(text: str, cases: list[Case], ended: str, seconds: float) -> Iterator[Outcome]:
    text = _COLOURS.sub("", text)
    told = {name: (state, float(took), reason) for name, state, took, reason in _SUMMARY.findall(text)}
    failures = {test.partition(" (")[0]: f"{where}: {why}" for test, where, why in reversed(_FAILURE.findall(text))}
    for case in cases:
        state, took, reason = told.get(case.name, ("FAILED", seconds, f"the runner {ended} without a summary"))
        if state == "PASSED":
            reason = ""
        elif state != "SKIPPED":
            state, reason = "FAILED", failures.get(case.name) or reason or f"the runner {ended}"
        yield Outcome(name=case.name, state=state.lower(), seconds=took, reason=reason.strip())


def run_suite(
    run: Run, cases: list[Case], start: Callable[[str], AbstractContextManager[Log]], *, at_once: int
) -> list[Outcome]:
    """Run the cases, scenario by scenario, each on the log that `start` gives for it."""
    outcomes: list[Outcome] = []
    for scenario in SCENARIOS:
        groups: dict[str, list[Case]] = {}
        for case in cases:
            if scenario == case.scenarios[0]:
                groups.setdefault(case.number, []).append(case)
        if not groups:
            continue
        with ExitStack() as stack:
            log = stack.enter_context(start(scenario))
            pool = stack.enter_context(ThreadPoolExecutor(at_once))
            runs = [pool.submit(run_number, run, n, scenario, group, log) for n, group in groups.items()]
            for done in runs:
                for outcome in done.result():
                    print(line(outcome), flush=True)
                    outcomes.append(outcome)
    return outcomes


@contextmanager
def _log(arguments: argparse.Namespace, scenario: str) -> Iterator[Log]:
    if arguments.bootstrap:
        yield Log(bootstrap=arguments.bootstrap, tools_bootstrap=arguments.bootstrap)
        return
    settings = SCENARIOS[scenario] | dict(each.split("=", 1) for each in arguments.broker)
    with tempfile.TemporaryDirectory(prefix=f"rdk-{arguments.engine}-") as name:
        how = {"protocol": arguments.security, "mechanism": arguments.mechanism}
        with secured_log(arguments.engine, Path(name), settings, **how) as log:
            yield log


def line(outcome: Outcome) -> str:
    """One row of the table."""
    return f"{outcome.state:<8} {outcome.seconds:7.1f} s  {outcome.name:<48} {outcome.reason}".rstrip()


def summary(outcomes: Iterable[Outcome]) -> str:
    """The closing line."""
    counts = Counter(outcome.state for outcome in outcomes)
    return f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped"


def chosen(cases: list[Case], numbers: str, pattern: str) -> tuple[list[Case], list[Outcome]]:
    """The cases to run, and those that are left out with the reason."""
    wanted = set(filter(None, numbers.split(",")))
    there = [case for case in cases if not case.is_local and not case.is_manual and re.search(pattern, case.name)]
    run = [case for case in there if (case.number in wanted if wanted else why_not(case) is None)]
    left_out = [] if wanted else [case for case in there if why_not(case)]
    return run, [Outcome(name=c.name, state="skipped", seconds=0, reason=why_not(c) or "") for c in left_out]


def main() -> int:
    """Read the command line, run, print the table; 1 if a test failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.suites.librdkafka", description=__doc__)
    parser.add_argument("--engine", choices=("embedded", "apache"), default="embedded")
    parser.add_argument("--bootstrap", help="use this running log for every scenario instead of fresh ones")
    parser.add_argument("--security", choices=PROTOCOLS, default="PLAINTEXT", help="what fresh logs speak with clients")
    parser.add_argument("--mechanism", choices=MECHANISMS, default="SCRAM-SHA-512", help="how they log in with SASL_*")
    parser.add_argument(
        "--broker", action="append", default=[], metavar="NAME=VALUE", help="one more setting of fresh logs"
    )
    parser.add_argument("--tests", default="", help="numbers with commas, 0033,0081 (default: all that can be judged)")
    parser.add_argument("--match", default="", help="only names with this regular expression")
    parser.add_argument("--full", action="store_true", help="without the suite's quick mode")
    parser.add_argument("--group-protocol", choices=("classic", "consumer"), default="classic")
    parser.add_argument(
        "--client", action="append", default=[], metavar="NAME=VALUE", help="one more line of test.conf"
    )
    parser.add_argument("--at-once", type=int, default=1, help="test processes that run at the same time")
    parser.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="seconds for one number")
    parser.add_argument("--built", type=Path, help="folder of an already built librdkafka's tests")
    parser.add_argument("--logs", type=Path, help="keep the output of every test there")
    parser.add_argument("--json", type=Path, help="write the outcomes there as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rdk-suite-") as scratch:
        try:
            tests = (arguments.built or built()).resolve()
            environment = {"KAFKA_PATH": str(write_tools(Path(scratch) / "kafka", apache.class_path()))}
        except SuiteMissing as error:
            print(f"librdkafka's suite: {error}", file=sys.stderr)
            return EXIT_MISSING
        except apache.EngineMissing as error:
            print(f"without Apache Kafka's tools (tests that call them will fail): {error}", file=sys.stderr)
            environment = {}
        logs = arguments.logs or Path(scratch)
        logs.mkdir(parents=True, exist_ok=True)
        run = Run(
            tests=tests,
            quick=not arguments.full,
            limit_seconds=arguments.limit,
            group_protocol=arguments.group_protocol,
            client_settings=tuple(arguments.client),
            environment=environment,
            logs=logs,
        )
        cases, outcomes = chosen(declared(tests), arguments.tests, arguments.match)
        outcomes += run_suite(run, cases, lambda scenario: _log(arguments, scenario), at_once=arguments.at_once)
    print("\nnot passed:")
    print("\n".join(line(outcome) for outcome in outcomes if outcome.state != "passed"))
    print(summary(outcomes))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    return EXIT_FAILED if any(outcome.state == "failed" for outcome in outcomes) else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
