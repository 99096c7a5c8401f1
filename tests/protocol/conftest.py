"""What the codec tests share: every message of the table, values to fill them with, by chance and by plan."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import count
from typing import Any

import pytest
from hypothesis import strategies as st

from logqueue.protocol import messages
from logqueue.protocol.schema import ARRAY, BYTES, FLOAT64, RECORDS, STRING, STRUCT, UUID, Field, Kind, Message, Struct


def _message_types() -> list[type[Message]]:
    found: dict[str, type[Message]] = {}
    for module in pkgutil.iter_modules(messages.__path__):
        for value in vars(import_module(f"{messages.__name__}.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Message) and value is not Message:
                found[value.__name__] = value
    return list(found.values())


MESSAGES = _message_types()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "message_type" in metafunc.fixturenames:
        metafunc.parametrize("message_type", MESSAGES, ids=lambda m: m.__name__)


# -- by chance

_TEXT = st.one_of(st.text(max_size=6), st.just("long " * 30))
_BLOB = st.one_of(st.binary(max_size=6), st.just(b"x" * 200))


def _kind_strategy(kind: Kind[Any], version: int) -> st.SearchStrategy[Any]:
    if kind is STRING:
        return _TEXT
    if kind is BYTES or kind is RECORDS:
        return _BLOB
    if kind is UUID:
        return st.binary(min_size=16, max_size=16)
    if kind is FLOAT64:
        return st.floats(allow_nan=False)
    if kind.format == "?":
        return st.booleans()
    bits = kind.width * 8
    if kind.format.isupper():
        return st.integers(0, 2**bits - 1)
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _item_strategy(item: Any, version: int) -> st.SearchStrategy[Any]:
    return _kind_strategy(item, version) if isinstance(item, Kind) else struct_strategy(item, version)


def _field_strategy(field: Field, version: int) -> st.SearchStrategy[Any]:
    if field.kind is ARRAY:
        strategy = st.lists(_item_strategy(field.item, version), max_size=2)
    elif field.kind is STRUCT:
        strategy = struct_strategy(field.item, version)
    else:
        strategy = _kind_strategy(field.kind, version)
    if field.is_nullable(version) or (field.kind is STRUCT and field.tag is not None):
        return st.none() | strategy
    return strategy


def struct_strategy(struct: type[Struct], version: int) -> st.SearchStrategy[Any]:
    fields = {f.name: _field_strategy(f, version) for f in struct.fields if f.is_in(version)}
    return st.fixed_dictionaries(fields).map(lambda values: struct(**values))


@pytest.fixture(scope="session")
def strategy_of() -> Callable[[type[Message], int], st.SearchStrategy[Any]]:
    """A strategy for any value of a message version; fields the version lacks keep their defaults."""
    return struct_strategy


# -- by plan

Fill = Callable[..., Any]


def _planned(kind: Kind[Any], numbers: Iterator[int]) -> Any:
    number = next(numbers) % 50 + 1  # small enough to be an error code, and different from its neighbours
    if kind is STRING:
        return f"text-{number}"
    if kind is BYTES or kind is RECORDS:
        return b"bytes-%d" % number
    if kind is UUID:
        return bytes([number]) * 16
    if kind.format == "?":
        return number % 2 == 0
    return number


def _fill(struct: type[Struct], version: int, variant: str, numbers: Iterator[int]) -> Any:
    values: dict[str, Any] = {}
    for field in struct.fields:
        if not field.is_in(version):
            continue
        if variant == "null" and (field.is_nullable(version) or field.tag is not None):
            if field.is_nullable(version):
                values[field.name] = None
            continue
        values[field.name] = _fill_field(field, version, variant, numbers)
    return struct(**values)


def _fill_field(field: Field, version: int, variant: str, numbers: Iterator[int]) -> Any:
    def one(item: Any) -> Any:
        return _planned(item, numbers) if isinstance(item, Kind) else _fill(item, version, variant, numbers)

    if field.kind is ARRAY:
        return [one(field.item) for _ in range({"full": 2, "null": 1, "empty": 0}[variant])]
    if field.kind is STRUCT:
        return one(field.item)
    if variant == "empty" and field.kind in (STRING, BYTES, RECORDS):
        return "" if field.kind is STRING else b""
    return _planned(field.kind, numbers)


@pytest.fixture(scope="session")
def fill() -> Fill:
    """`fill(message, version, variant)`: a message with planned values.

    Variants: `full` (every field set, arrays of two), `null` (whatever may be null is, no tagged fields), `empty`
    (strings, bytes and arrays are empty). Neighbouring fields differ, so that swapped ones are noticed.
    """
    return lambda message, version, variant="full": _fill(message, version, variant, count())
