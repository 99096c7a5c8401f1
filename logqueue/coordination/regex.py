"""Regular expressions of subscriptions, in RE2's syntax as KIP-848 wants it: linear time whatever the client sends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from logqueue.errors import ErrorCode, KafkaError


class InvalidRegularExpression(KafkaError):
    """The regular expression is none; the text goes to the client."""

    code = ErrorCode.INVALID_REGULAR_EXPRESSION

    def __init__(self, regex: str, reason: str) -> None:
        super().__init__(f"SubscribedTopicRegex `{regex}` is not a valid regular expression: {reason}.")


def check_regex(regex: str) -> None:
    """Raise InvalidRegularExpression with RE2's reason."""
    _compile(regex)


def matching(regex: str, names: Iterable[str]) -> frozenset[str]:
    """The names that match as a whole. Raises InvalidRegularExpression."""
    pattern = _compile(regex)
    return frozenset(name for name in names if pattern.fullmatch(name) is not None)


def _compile(regex: str) -> Any:
    import re2  # C++; only groups that subscribe by a regular expression need it

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(regex, options)
    except re2.error as error:
        reason = error.args[0]
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise InvalidRegularExpression(regex, text) from None
