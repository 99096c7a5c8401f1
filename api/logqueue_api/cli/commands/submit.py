"""Submit a job: arguments as k=v words (v is read as JSON where it is JSON, else as text), --args JSON, or --args -.

logqueue submit email.send --tenant acme to=a@b.c body=hi n=3 --wait
echo '{"to": "a@b.c"}' | logqueue submit email.send --args -
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from typing import Any

from logqueue_api.cli.api_client import ApiClient
from logqueue_api.cli.arguments import add_stack, seconds
from logqueue_api.cli.exits import CommandError, ExitCode, UsageError
from logqueue_api.cli.output import Output
from logqueue_api.cli.stack import find_stack
from logqueue_api.cli.waiting import show_job, wait_for_end

DEFAULT_WAIT_SECONDS = 30.0
LARGEST_INPUT_BYTES = 16 << 20
WANTS_TEXT = re.compile(r"\b(string|str|text)\b")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("type", metavar="TYPE", help="the job type")
    parser.add_argument("words", nargs="*", metavar="k=v", help="arguments of the job")
    parser.add_argument(
        "--args", metavar="JSON", help="the arguments as one JSON object; - reads it from standard input"
    )
    parser.add_argument("--tenant", help="whose job it is (default: the API's)")
    parser.add_argument("--priority", metavar="CLASS", help="a priority class of the queue")
    parser.add_argument("-q", "--queue", help="only where the type is in several queues")
    parser.add_argument("--id", help="an id of your own")
    parser.add_argument("--key", help="an idempotency key: the same key is the same job")
    parser.add_argument("--delay", type=seconds, metavar="T", help="not before this much time has passed")
    parser.add_argument("--wait", action="store_true", help="wait for the end; exit code 1 if it is not a success")
    parser.add_argument("--timeout", type=seconds, default=DEFAULT_WAIT_SECONDS, metavar="T", help="of --wait (30s)")
    add_stack(parser)


def run(options: argparse.Namespace) -> int:
    body: dict[str, Any] = {"type": options.type, "args": _arguments(options)}
    for name in ("tenant", "queue", "id", "priority"):
        if getattr(options, name) is not None:
            body[name] = getattr(options, name)
    if options.key is not None:
        body["idempotency_key"] = options.key
    if options.delay is not None:
        body["delay"] = f"{round(options.delay * 1000)}ms"
    api = ApiClient(find_stack(options))
    output = Output(is_json=options.json)
    try:
        job = api.post("/v1/jobs", body)
    except CommandError as error:
        if error.code is ExitCode.USAGE and not error.hint:
            error.hint = _text_hint(options.words, error.message)
        raise
    if not options.wait:
        output.record(job)
        return ExitCode.OK
    return show_job(wait_for_end(api, job["id"], timeout=options.timeout, min_position=job["position"]), output)


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    found = _from_json(options.args) if options.args is not None else {}
    for word in options.words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise UsageError(f"{word!r} is not of the form k=v", hint="--args JSON takes the arguments as one object")
        if name in found:
            raise UsageError(f"argument {name!r} is given twice")
        found[name] = _value(text)
    return found


def _from_json(text: str) -> dict[str, Any]:
    if text == "-":
        text = sys.stdin.read(LARGEST_INPUT_BYTES + 1)
        if len(text) > LARGEST_INPUT_BYTES:
            raise UsageError(f"standard input is larger than {LARGEST_INPUT_BYTES >> 20} MiB")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--args is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UsageError("--args is not a JSON object", hint="""for example --args '{"to": "a@b.c"}'""")
    return value


def _text_hint(words: list[str], message: str) -> str:
    """Where the API wants text and a word was read as another JSON value: how to write it as text."""
    for word in words:
        name, _, text = word.partition("=")
        is_meant = any(
            re.search(rf"\b{re.escape(name)}\b", line) and WANTS_TEXT.search(line) for line in message.splitlines()
        )
        if is_meant and not isinstance(_value(text), str):
            return f"{shlex.quote(f'{name}={json.dumps(text)}')} sends text"
    return ""


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError:
        return text


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is Python's, not JSON")
