"""The guide is true: its Python runs in a lab, its commands are understood, what it names and links to is there."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from logqueue_api.cli.arguments import Parser
from logqueue_api.cli.dispatch import COMMANDS
from logqueue_api.cli.exits import UsageError

from logqueue.broker import command as broker
from logqueue.errors import LogqueueError
from logqueue.testing import JobLab
from tests.guide.page import AWAITS, DOCS, LANGUAGES, blocks, commands, files, module_source

ROOT = DOCS.parent
PAGES = sorted(DOCS.glob("*.md"))
OTHERS_COMMANDS = frozenset({"curl", "docker", "echo", "kcat", "make", "pip"})
VARIABLE = re.compile(r"\bLOGQUEUE_[A-Z_]+\b")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@pytest.fixture
def module(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The page's definitions, imported from a file of their own: isolated handlers import them again."""
    name = page.stem.replace("-", "_") + "_examples"
    file = tmp_path / f"{name}.py"
    file.write_text(module_source(page))
    for needed, text in files(page).items():
        (tmp_path / needed).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    try:
        spec.loader.exec_module(loaded)
        yield loaded
    finally:
        del sys.modules[name]


@pages
def test_every_block_says_what_it_is(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{page.name}:{block.line}"


@pages
def test_the_examples_hold(
    page: Path, module: ModuleType, logqueue_lab: Callable[..., JobLab], request: pytest.FixtureRequest
) -> None:
    async def main() -> None:
        async with logqueue_lab(module.app) as lab:
            for block in blocks(page):
                if block.language == "python" and block.awaits:
                    await run(block.source)
                    await lab.drain()

    async def run(source: str) -> None:
        code = compile(source, str(page), "exec", flags=AWAITS)
        found = eval(code, vars(module))
        if inspect.isawaitable(found):
            await found

    asyncio.run(main())
    for test in [value for name, value in vars(module).items() if name.startswith("test_")]:
        told: Any = test(**{name: request.getfixturevalue(name) for name in inspect.signature(test).parameters})
        if inspect.iscoroutine(told):
            asyncio.run(told)


@pages
def test_every_command_is_understood(page: Path) -> None:
    for line, words in commands(page):
        while VARIABLE.match(words[0]):
            words = words[1:]
        where = f"{page.name}:{line}: {' '.join(words)}"
        if words[0] != "logqueue":
            assert words[0] in OTHERS_COMMANDS, where
            continue
        assert words[1] in COMMANDS, where
        parse(words[1], words[2:], where)


def parse(name: str, words: list[str], where: str) -> None:
    """Read the options of a command as the command reads them."""
    try:
        if name == "broker":
            broker.parse(words)
            return
        parser = Parser(prog=f"logqueue {name}")
        import_module(f"logqueue_api.cli.commands.{name}").add_arguments(parser)
        reading = parser.parse_intermixed_args if name == "submit" else parser.parse_args
        reading(words)
    except (LogqueueError, UsageError) as error:
        raise AssertionError(f"{where}: {error}") from error


@pages
def test_every_variable_and_link_is_there(page: Path) -> None:
    text = page.read_text("utf-8")
    for link in LINK.findall(text):
        assert (DOCS / link).exists(), f"{page.name}: {link}"
    for name in VARIABLE.findall(text):
        assert is_known(name), f"{page.name}: {name}"


def is_known(variable: str) -> bool:
    from dataclasses import fields

    from logqueue_api.rest import limits

    from logqueue.jobs import settings

    for module, values in ((settings, settings.Settings), (limits, limits.ApiLimits)):
        if variable in {module.variable_name(field.name) for field in fields(values)}:
            return True
    code = (file.read_text("utf-8") for file in ROOT.glob("api/**/*.py"))
    return any(f'"{variable}"' in text for text in code)


def test_there_is_a_guide_and_the_readme_leads_to_it() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert PAGES
    for page in PAGES:
        assert f"docs/{page.name}" in readme
