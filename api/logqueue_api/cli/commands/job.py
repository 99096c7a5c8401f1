"""One job: look it up, wait for its end (exit code 0 succeeded, 1 ended otherwise, 5 still running), its log lines.

Cancel it, run it again, run it now: the command is on the log when this returns, and obeyed by the worker.
"""

from __future__ import annotations

import argparse
from typing import Any

from logqueue_api.cli.api_client import ApiClient, quoted
from logqueue_api.cli.arguments import add_stack, seconds
from logqueue_api.cli.exits import ExitCode
from logqueue_api.cli.job_commands import VERBS, add_one, run_one
from logqueue_api.cli.output import Output
from logqueue_api.cli.stack import find_stack
from logqueue_api.cli.waiting import LONGEST_POLL_SECONDS, show_job, wait_for_end

DEFAULT_WAIT_SECONDS = 30.0
WAIT_TOLD = (
    "Wait for a job's end. A job that nobody knows yet may still be on its way to the API: "
    f"that there is no such job is said after {LONGEST_POLL_SECONDS:g} s (or --timeout if that is less)."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="get|wait|log|cancel|retry|run-now|discard")
    get = verbs.add_parser("get", help="what is known of a job now")
    get.add_argument("id", metavar="ID")
    get.add_argument("--group", metavar="G", help="its run in this replay group instead of the live one")
    add_stack(get)
    wait = verbs.add_parser("wait", help="wait for a job's end", description=WAIT_TOLD)
    wait.add_argument("id", metavar="ID")
    wait.add_argument("--timeout", type=seconds, default=DEFAULT_WAIT_SECONDS, metavar="T", help="at most (30s)")
    add_stack(wait)
    lines = verbs.add_parser("log", help="the lines that its handler wrote with ctx.log, and its progress")
    lines.add_argument("id", metavar="ID")
    add_stack(lines)
    add_one(verbs)


def run(options: argparse.Namespace) -> int:
    api = ApiClient(find_stack(options))
    output = Output(is_json=options.json)
    if options.verb == "wait":
        return show_job(wait_for_end(api, options.id, timeout=options.timeout), output)
    if options.verb == "log":
        return _log(api.get(f"/v1/jobs/{quoted(options.id)}")["details"], output)
    if options.verb in VERBS:
        return run_one(api, options, output)
    output.record(api.get(f"/v1/jobs/{quoted(options.id)}", {"group": options.group}))
    return ExitCode.OK


def _log(details: dict[str, Any], output: Output) -> int:
    from logqueue_api.cli.record_view import time_text

    lines, progress = details.get("log", []), details.get("progress")
    if output.is_json:
        output.document({"items": lines, "dropped": details.get("log_dropped", 0), "progress": progress})
        return ExitCode.OK
    if details.get("log_dropped"):
        output.line(f"({details['log_dropped']} older lines were not kept)")
    for entry in lines:
        output.line(f"{time_text(entry['at'])}  attempt {entry['attempt']}  {entry['line']}")
    if progress is not None:
        total = "" if progress.get("total") is None else f" of {progress['total']:g}"
        output.line(f"progress: {progress['done']:g}{total} {progress.get('message', '')}".rstrip())
    if not lines and progress is None:
        output.line("its handler wrote nothing")
    return ExitCode.OK
