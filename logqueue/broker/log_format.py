"""Forms of log lines: text for people, logfmt (key=value) and JSON for programs. Knows nothing of what is logged.

Whatever a log call gives as `extra` becomes a field of its own in the forms for programs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_PLAIN = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "taskName"}


def formatter(form: str) -> logging.Formatter:
    """The formatter of one of the forms text, logfmt and json."""
    match form:
        case "logfmt":
            return LogfmtFormatter()
        case "json":
            return JsonFormatter()
        case _:
            return logging.Formatter(TEXT)


class LogfmtFormatter(logging.Formatter):
    """One line of key=value pairs; values are quoted where they have to be."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_quoted(str(value))}" for key, value in _fields(self, record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        import json

        return json.dumps(dict(_fields(self, record)), default=str, ensure_ascii=False)


def _fields(form: logging.Formatter, record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    yield "ts", time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z"
    yield "level", record.levelname.lower()
    yield "logger", record.name
    yield "msg", record.getMessage()
    for key, value in vars(record).items():
        if key not in _PLAIN:
            yield key, value
    if record.exc_info:
        yield "exception", form.formatException(record.exc_info)


def _quoted(text: str) -> str:
    if text and not any(character in ' ="\\' or not character.isprintable() for character in text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'
