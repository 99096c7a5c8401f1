"""librdkafka and its own tests, out of the npm package that ships their sources. Knows no broker.

Nothing of it is part of this repository: it is fetched through npm, built in `.cache`, and can be thrown away.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "@confluentinc/kafka-javascript"
VERSION = "1.10.1"
CACHE = Path(__file__).resolve().parents[2] / ".cache"
NEEDED = ("npm", "gcc", "g++", "make", "bash", "openssl")
DEBIAN_PACKAGES = "npm gcc g++ make libssl-dev zlib1g-dev libzstd-dev libsasl2-dev libcurl4-openssl-dev rapidjson-dev"
NPM_SECONDS = 300
BUILD_SECONDS = 1800

# `_TEST(0033_regex_subscribe, 0, TEST_BRKVER(0, 9, 0, 0)),` in test.c
_DECLARATION = re.compile(r"^    _TEST\((\w+),(.*?)\)[,;]?$(?=\n(?:    _TEST|#|\n|    /\*|    \{))", re.M | re.S)
# Topics with three replicas, which one node cannot have: they get the broker's default instead.
_THREE_REPLICAS = re.compile(r"(create_topic(?:_wait_exists)?\([^;]*?, )3(, 5000\);|\);)")
_ONE_NODE_ENOUGH = ("0098-*.cpp", "0103-*.c", "0107-*.c", "0111-*.cpp", "0142-*.c")

_SCENARIO = re.compile(r'\.scenario = "([^"]+)"')
_MINIMUM = re.compile(r"TEST_BRKVER\((\d+), (\d+), (\d+), (\d+)\)")


class SuiteMissing(Exception):
    """This machine lacks what building the suite needs; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test of the suite, as `test.c` declares it."""

    name: str
    is_local: bool
    is_manual: bool
    is_known_issue: bool
    cuts_sockets: bool
    scenarios: tuple[str, ...]
    minimum_broker: tuple[int, ...]

    @property
    def number(self) -> str:
        """What the runner chooses tests by; several cases may share it."""
        return self.name.partition("_")[0]


def built(cache: Path = CACHE) -> Path:
    """The folder of the built tests (it holds `test-runner`); fetched and built the first time. Raises SuiteMissing."""
    folder = cache / f"librdkafka-tests-{VERSION}"
    tests = folder / "package" / "deps" / "librdkafka" / "tests"
    if (folder / "complete").exists():
        return tests
    missing = [tool for tool in NEEDED if shutil.which(tool) is None]
    if missing:
        raise SuiteMissing(f"needs {', '.join(missing)}; on Debian: apt-get install {DEBIAN_PACKAGES}")
    folder.mkdir(parents=True, exist_ok=True)
    _run(["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"], folder, NPM_SECONDS)
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        archive.extractall(folder, filter="data")
    for script in ("configure", "tests/run-test.sh", "mklove/modules/configure.base", "lds-gen.py"):
        (tests.parent / script).chmod(0o755)
    one_replica(tests)
    jobs = f"-j{os.cpu_count() or 1}"
    _run(["bash", "./configure"], tests.parent, BUILD_SECONDS)
    _run(["make", jobs, "libs"], tests.parent, BUILD_SECONDS)
    _run(["make", jobs, "-C", "tests", "build"], tests.parent, BUILD_SECONDS)
    (folder / "complete").touch()
    return tests


def one_replica(tests: Path) -> None:
    """Let the tests run on one node that ask for three replicas although nothing in them needs more than one."""
    for pattern in _ONE_NODE_ENOUGH:
        for source in tests.glob(pattern):
            source.write_text(_THREE_REPLICAS.sub(r"\g<1>-1\2", source.read_text()))


def declared(tests: Path) -> list[Case]:
    """Every test that the runner knows, in its order."""
    source = (tests / "test.c").read_text()
    table = source[source.index("struct test tests[] = {") : source.index("/* Manual tests */\n    _TEST")]
    return [_case(name, rest) for name, rest in _DECLARATION.findall(table)]


def _case(name: str, rest: str) -> Case:
    scenario = _SCENARIO.search(rest)
    minimum = _MINIMUM.search(rest)
    return Case(
        name=name,
        is_local="TEST_F_LOCAL" in rest,
        is_manual="TEST_F_MANUAL" in rest,
        is_known_issue=re.search(r"TEST_F_KNOWN_ISSUE\b", rest) is not None,
        cuts_sockets="TEST_F_SOCKEM" in rest,
        scenarios=tuple(scenario[1].split(",")) if scenario else ("default",),
        minimum_broker=tuple(int(part) for part in minimum.groups()) if minimum else (0, 0, 0, 0),
    )


def _run(command: list[str], folder: Path, seconds: int) -> None:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=seconds, check=False
    )
    if done.returncode != 0:
        raise SuiteMissing(f"`{' '.join(command)}` in {folder} failed:\n{(done.stdout + done.stderr)[-3000:]}")
