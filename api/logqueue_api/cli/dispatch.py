"""Finds the command, runs it, turns errors into messages and exit codes. Imports nothing heavy.

`logqueue broker` must answer its first client within 100 ms of exec, so this file loads the standard library's
argparse and the one command that was asked for, nothing else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from logqueue_api.cli.exits import CommandError, ExitCode, UsageError

if TYPE_CHECKING:
    from logqueue.errors import LogqueueError

COMMANDS: dict[str, str] = {
    "up": "start everything on this machine: log, workers, API, one screen",
    "broker": "run the log alone (any Kafka client can use it)",
    "worker": "run an app's jobs; ls: who works",
    "api": "run the HTTP API and the view",
    "submit": "submit a job",
    "job": "one job: get, wait, log, cancel, retry, run-now, discard",
    "jobs": "many jobs: ls, cancel, retry, discard",
    "workflow": "workflows: ls, show, cancel",
    "schedule": "cron schedules: ls, show, set, pause, resume, run-now, rm, restore",
    "dlq": "dead letters: ls, show, replay, discard",
    "bridge": "to and from RabbitMQ, outcomes as CloudEvents: in, out, events",
    "outbox": "jobs from a table of your own database: ddl, run, status",
    "replay": "run history again in a shadow group",
    "export": "write jobs to a file that tests run handlers on",
    "topic": "topics: ls, describe, tail",
    "group": "consumer groups: ls, describe",
    "queue": "queues: ls, pause, resume (a queue, a tenant, a type)",
    "limit": "limits of what runs: ls, set, rm",
    "weight": "weights of tenants and priorities: ls, set, rm",
    "kill": "kill switches by type and arguments: ls, set, rm",
    "schema": "schemas of arguments: ls, show, check, register",
    "doctor": "look for what is wrong, or will be, with a log",
    "users": "users of the log: add, list, remove",
    "acls": "who may do what on the log: add, list, remove",
}

_LIKELY = 0.6  # similarity above which a mistyped command is suggested


def dispatch(argv: Sequence[str]) -> int:
    """Run one command and answer its exit code; raises KeyboardInterrupt, and nothing for bad input."""
    arguments = list(argv)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except CommandError as error:
        return _report(error, as_json="--json" in arguments)
    except BrokenPipeError:
        # The reader (`| head`) left: nobody is there to be told. Keep the interpreter's exit flush quiet too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else ExitCode.OK
    except Exception as error:
        return _report_unexpected(error, as_json="--json" in arguments)


VALUED = ("--bootstrap", "--api", "--data-dir")
"""Options of every command whose next word is their value."""


def _dispatch(arguments: list[str]) -> int:
    leading, rest = _split(arguments)
    if not rest:
        return _without_command(leading)
    name, *options = rest
    if name == "help":
        return _dispatch([*options, "--help"])
    if name not in COMMANDS:
        raise UsageError(f"there is no command {name!r}{_suggestion(name)}", hint="logqueue --help lists them")
    if tuple(rest[:2]) == ("worker", "ls"):  # `worker` itself takes an app there
        name, options = "worker ls", rest[2:]
    if name == "broker":
        from logqueue.broker import quick_start

        quick_start.begin()
    module = import_module(f"logqueue_api.cli.commands.{name.replace(' ', '_')}")
    code: int
    if name == "broker":  # reads its words by hand: argparse alone is a tenth of its start
        code = module.run_words([*options, *leading])
        return code
    from logqueue_api.cli.arguments import Parser

    parser = Parser(prog=f"logqueue {name}", description=module.__doc__)
    module.add_arguments(parser)
    # Words and options of `submit` may be mixed: submit TYPE --tenant acme k=v --wait.
    parse = parser.parse_intermixed_args if name == "submit" else parser.parse_args
    code = module.run(parse([*options, *leading]))
    return code


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Options that every command takes may stand before it (`logqueue --json jobs ls`); they are moved behind it."""
    is_value = False
    for position, argument in enumerate(arguments):
        if not argument.startswith("-") and not is_value:
            return arguments[:position], arguments[position:]
        is_value = argument in VALUED and not is_value
    return arguments, []


def _without_command(options: list[str]) -> int:
    if any(option in ("-V", "--version") for option in options):
        from logqueue.version import __version__

        print(f"logqueue {__version__}")
        return ExitCode.OK
    if not options or any(option in ("-h", "--help") for option in options):
        print(_help())
        return ExitCode.OK if options else ExitCode.USAGE
    raise UsageError(f"no command after {' '.join(options)}", hint="logqueue --help lists the commands")


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = ["usage: logqueue COMMAND [options]", "", "A durable job queue that is a Kafka log.", "", "commands:"]
    lines += [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    lines += ["", "Every command takes --help and --json. Addresses come from --bootstrap/--api, then"]
    lines += ["LOGQUEUE_BOOTSTRAP/LOGQUEUE_API, then run.json of the data folder, then localhost.", "", "exit codes:"]
    lines += [f"  {code.value:>3}  {code.meaning}" for code in ExitCode]
    return "\n".join(lines)


def _suggestion(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, COMMANDS, n=1, cutoff=_LIKELY)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _report(error: CommandError, *, as_json: bool) -> int:
    if as_json:
        import json

        problem = {"error": {"code": error.code.name.lower(), "message": error.message, "hint": error.hint}}
        print(json.dumps(problem), file=sys.stderr)
    else:
        print(f"logqueue: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
    return error.code


def _report_unexpected(error: Exception, *, as_json: bool) -> int:
    """An error of the world says its text; anything else is a defect and shows where."""
    from logqueue.errors import LogqueueError

    if isinstance(error, LogqueueError):
        return _report(CommandError(str(error), code=_code_of(error)), as_json=as_json)
    import traceback

    traceback.print_exception(error, file=sys.stderr)
    return _report(CommandError(f"internal error: {type(error).__name__}: {error}", code=ExitCode.BUG), as_json=as_json)


def _code_of(error: LogqueueError) -> ExitCode:
    """The one place where the errors of other rooms become exit codes."""
    from logqueue.config import InvalidConfig
    from logqueue.jobs import errors

    match error:
        case errors.BrokerUnreachable():
            return ExitCode.UNREACHABLE
        case errors.InvalidSetting() | errors.InvalidArguments() | errors.UnknownJobType() | InvalidConfig():
            return ExitCode.USAGE
        case errors.InvalidDefinition():
            return ExitCode.APP
        case errors.WaitTimeout():
            return ExitCode.TIMEOUT
        case _:
            return ExitCode.FAILED
