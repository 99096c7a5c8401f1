"""What pydantic finds wrong, in the words of somebody who sends JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_WORDS: Final[Mapping[str, str]] = {
    "missing": "missing",
    "extra_forbidden": "unknown field",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "is too large a number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "string_too_long": "must be at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "datetime_type": "must be a time with a zone, such as 2026-01-31T12:00:00Z",
    "datetime_parsing": "must be a time with a zone, such as 2026-01-31T12:00:00Z",
    "datetime_from_date_parsing": "must be a time with a zone, such as 2026-01-31T12:00:00Z",
    "datetime_object_invalid": "must be a time with a zone, such as 2026-01-31T12:00:00Z",
    "timezone_aware": "must be a time with a zone, such as 2026-01-31T12:00:00Z",
}


def plain_words(fault: Mapping[str, Any]) -> str:
    """One item of `ValidationError.errors()` in plain words; pydantic's own where there are none here."""
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "string_too_short":
        least = context["min_length"]
        return "must not be empty" if least == 1 else f"must be at least {least} characters"
    if kind == "too_short":
        return f"must hold at least {_items(context['min_length'], fault['loc'])}"
    if kind == "too_long":
        return f"must hold at most {_items(context['max_length'], fault['loc'])}"
    words = _WORDS.get(kind)
    if words is None:
        return str(fault["msg"])
    whole = {name: int(held) for name, held in context.items() if isinstance(held, float) and held.is_integer()}
    return words.format_map({**context, **whole})


def _items(count: int, path: tuple[int | str, ...]) -> str:
    """Such as "1 job" of a list called `jobs`."""
    name = str(path[-1]) if path else "items"
    return f"{count:,} {name.removesuffix('s') if count == 1 else name}"
