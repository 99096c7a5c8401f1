"""Run the log alone, the same as `python -m logqueue.broker`; its options are read by the broker itself.

Nothing is imported here but the broker: its first answer comes within 100 ms of the start.
"""

from __future__ import annotations

import asyncio
import os
import sys

from logqueue.broker import command
from logqueue.broker.network.listener import CannotListen
from logqueue.config import InvalidConfig
from logqueue.errors import LogqueueError
from logqueue.storage.errors import DataFolderError
from logqueue_api.cli.exits import CommandError, ExitCode, UsageError

EXTRA_USAGE = """\
  --json                  print the ready line as JSON; errors are JSON on standard error
"""


def run_words(words: list[str]) -> int:
    """Serve until SIGTERM or SIGINT; raises CommandError where it cannot start."""
    if "-h" in words or "--help" in words:
        sys.stdout.write(command.USAGE.replace("python -m logqueue.broker", "logqueue broker") + EXTRA_USAGE)
        return ExitCode.OK
    is_json = "--json" in words
    folder = os.environ.get("LOGQUEUE_DATA_DIR")
    given = ["--data-dir", folder, *words] if folder else words
    try:
        options = command.parse([word for word in given if word != "--json"])
    except LogqueueError as error:
        detail = error.detail if isinstance(error, InvalidConfig) else str(error)
        raise UsageError(detail, hint="logqueue broker --help shows what it takes") from error
    command.configure_logging(options)
    try:
        asyncio.run(command.run(options, announce=_announce_json if is_json else command.announce))
    except (DataFolderError, CannotListen) as error:
        raise CommandError(str(error), code=ExitCode.IN_USE) from error
    return ExitCode.OK


def _announce_json(host: str, port: int, metrics: str | None) -> None:
    told = "" if metrics is None else f', "metrics": "{metrics}"'
    sys.stdout.write(f'{{"event": "ready", "bootstrap": "{host}:{port}"{told}}}\n')
    sys.stdout.flush()
