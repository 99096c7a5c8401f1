"""The levels of the broker's own loggers, as BROKER_LOGGER resources (KIP-412). They last until the process ends."""

from __future__ import annotations

import logging

from logqueue.config import InvalidConfig
from logqueue.errors import ErrorCode, KafkaError

ROOT = "root"
PREFIX = "logqueue"
_TRACE = 5
_LEVELS = {
    "TRACE": _TRACE,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
}


def levels() -> dict[str, str]:
    """Kafka's name of the level in effect, by logger."""
    found = {ROOT: _name(logging.getLogger().getEffectiveLevel())}
    for name, logger in sorted(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and name.split(".")[0] == PREFIX:
            found[name] = _name(logger.getEffectiveLevel())
    return found


def change_level(name: str, level: str | None, *, validate_only: bool) -> None:
    """Set a logger's level, or let it follow its parent again (None). Raises KafkaError."""
    if name not in levels():
        raise InvalidConfig(f"Logger {name} does not exist!")
    if level is None and name == ROOT:
        raise KafkaError("Removing the log level of the root logger is not allowed", code=ErrorCode.INVALID_REQUEST)
    if level is not None and level not in _LEVELS:
        raise InvalidConfig(
            f"Cannot set the log level of {name} to {level} as it is not a supported log level. "
            f"Valid log levels are {', '.join(sorted(_LEVELS))}"
        )
    if not validate_only:
        logger = logging.getLogger(None if name == ROOT else name)
        logger.setLevel(logging.NOTSET if level is None else _LEVELS[level])


def _name(level: int) -> str:
    return max((value, name) for name, value in _LEVELS.items() if value <= max(level, _TRACE))[1]
