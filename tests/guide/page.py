"""A page of the guide as code: its blocks, the module that they define, and what they say should come out. Pure.

Blocks of Python without a top-level `await` are one module, with the page's own line numbers, so that a failure names
the page's line. Those with one are run in a lab, in their order. A line `expression  # -> literal` is an assertion.
"""

from __future__ import annotations

import ast
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
LANGUAGES = frozenset({"python", "sh", "text", "json", "sql"})
AWAITS = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

_FENCE = re.compile(r"^```(\w*)$")
_OUTCOME = re.compile(r"^(\s*)(\S.*?)  # -> (.+)$")
_FILE = re.compile(r"^`([\w.-]+)`:$")
_COMMAND_END = re.compile(r"\s(?:\||&&|;|>|<)\s.*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block; `line` is the number of its first line."""

    language: str
    line: int
    text: str

    @property
    def awaits(self) -> bool:
        """Whether it is no part of a module: it awaits outside of functions."""
        try:
            compile(self.source, "", "exec")
        except SyntaxError:
            return True
        return False

    @property
    def source(self) -> str:
        """The code with its outcomes as assertions, at the page's lines."""
        lines = [_OUTCOME.sub(r"\1assert (\2) == (\3), \2", line) for line in self.text.splitlines()]
        return "\n" * (self.line - 1) + "\n".join(lines) + "\n"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    found: list[Block] = []
    language: str | None = None
    lines: list[str] = []
    first = 0
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if language is None and fence:
            language, lines, first = fence.group(1), [], number + 1
        elif language is not None and line == "```":
            found.append(Block(language=language, line=first, text="\n".join(lines)))
            language = None
        elif language is not None:
            lines.append(line)
    assert language is None, f"{page.name}: a block without an end"
    return found


def module_source(page: Path) -> str:
    """All definitions of a page as one module, each at the page's lines."""
    text: list[str] = []
    for block in blocks(page):
        if block.language == "python" and not block.awaits:
            text += [""] * (block.line - 1 - len(text)) + block.source.splitlines()[block.line - 1 :]
    return "\n".join(text) + "\n"


def files(page: Path) -> dict[str, str]:
    """Files that the examples need, by name: blocks that stand under a line that is a file's name."""
    lines = page.read_text("utf-8").splitlines()
    found = {}
    for block in blocks(page):
        title = _FILE.match(next((line for line in reversed(lines[: block.line - 2]) if line), ""))
        if title is not None:
            found[title.group(1)] = block.text
    return found


def commands(page: Path) -> list[tuple[int, list[str]]]:
    """The shell commands of a page with their lines: words, without what they are piped into."""
    found: list[tuple[int, list[str]]] = []
    for block in blocks(page):
        if block.language == "sh":
            text = block.text.replace("\\\n", "  ")
            for number, line in enumerate(text.splitlines(), block.line):
                words = shlex.split(_COMMAND_END.sub("", f"{line} "), comments=True)
                if words:
                    found.append((number, words))
    return found
