"""Records and values as commands show them, whatever is in them."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import Any

import pytest
from logqueue_api.cli.output import Column, Output
from logqueue_api.cli.record_view import DEEPEST_SHOWN_VALUE, record_document, record_line, value_document


def record(value: bytes) -> Any:
    return SimpleNamespace(topic="t", partition=0, offset=1, timestamp=2, key=b"k", headers=(), value=value)


def printed(value: dict[str, Any], *, is_json: bool, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    output = Output(is_json=is_json, stream=io.TextIOWrapper(raw, encoding=encoding))
    output.record(value)
    output.event(value, "text")
    output.items([value], [Column("value", "VALUE")], empty="")
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("levels", [DEEPEST_SHOWN_VALUE + 1, 900, 5_000])
@pytest.mark.parametrize("part", [("[", "]"), ('{"a":', "}")])
def test_a_value_that_is_too_deep_to_be_written_again_is_shown_as_text(levels: int, part: tuple[str, str]) -> None:
    text = part[0] * levels + "1" + part[1] * levels
    document = record_document(record(text.encode()))
    assert document["value"] == text
    assert record_line(record(text.encode()))
    assert printed(document, is_json=False)
    assert json.loads(printed(document, is_json=True).splitlines()[0])["value"] == text


def test_a_value_of_the_deepest_level_that_is_shown_is_json() -> None:
    text = "[" * DEEPEST_SHOWN_VALUE + "]" * DEEPEST_SHOWN_VALUE
    document = {"value": value_document(text.encode())}
    assert document["value"] == json.loads(text)
    assert printed(document, is_json=True)


@pytest.mark.parametrize(("text", "encoding"), [("a\ud800", "utf-8"), ("grüße", "ascii")])
def test_a_text_that_the_output_cannot_take_is_escaped(text: str, encoding: str) -> None:
    document = {"value": value_document(json.dumps(text).encode())}
    for line in printed(document, is_json=True, encoding=encoding).splitlines()[:2]:
        assert json.loads(line) == document
    if encoding == "utf-8":
        assert "a\\ud800" in printed(document, is_json=False)
