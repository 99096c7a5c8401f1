"""The examples of the README's section for tests are tests: each runs as it stands there."""

from __future__ import annotations

import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

SECTION = "## For your own tests"


def examples() -> dict[str, Any]:
    """What the section's Python blocks define, one after the other."""
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")
    section = text.split(SECTION, 1)[1].split("\n## ", 1)[0]
    names: dict[str, Any] = {"__name__": "readme"}
    for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        exec(compile(block, "README.md", "exec"), names)
    return names


NAMES = examples()
TESTS = sorted(name for name in NAMES if name.startswith("test_"))


def test_the_section_has_examples() -> None:
    assert len(TESTS) >= 4


@pytest.mark.parametrize("name", TESTS)
def test_the_example_holds(name: str, request: pytest.FixtureRequest) -> None:
    test = NAMES[name]
    found = test(**{fixture: request.getfixturevalue(fixture) for fixture in inspect.signature(test).parameters})
    if inspect.iscoroutine(found):
        asyncio.run(found)
