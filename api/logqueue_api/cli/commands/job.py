"""One job: look it up, or wait for its end (exit code 0 succeeded, 1 ended otherwise, 5 still running)."""

from __future__ import annotations

import argparse

from logqueue_api.cli.api_client import ApiClient, quoted
from logqueue_api.cli.arguments import add_stack, seconds
from logqueue_api.cli.exits import ExitCode
from logqueue_api.cli.output import Output
from logqueue_api.cli.stack import find_stack
from logqueue_api.cli.waiting import LONGEST_POLL_SECONDS, show_job, wait_for_end

DEFAULT_WAIT_SECONDS = 30.0
WAIT_TOLD = (
    "Wait for a job's end. A job that nobody knows yet may still be on its way to the API: "
    f"that there is no such job is said after {LONGEST_POLL_SECONDS:g} s (or --timeout if that is less)."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="get|wait")
    get = verbs.add_parser("get", help="what is known of a job now")
    get.add_argument("id", metavar="ID")
    get.add_argument("--group", metavar="G", help="its run in this replay group instead of the live one")
    add_stack(get)
    wait = verbs.add_parser("wait", help="wait for a job's end", description=WAIT_TOLD)
    wait.add_argument("id", metavar="ID")
    wait.add_argument("--timeout", type=seconds, default=DEFAULT_WAIT_SECONDS, metavar="T", help="at most (30s)")
    add_stack(wait)


def run(options: argparse.Namespace) -> int:
    api = ApiClient(find_stack(options))
    output = Output(is_json=options.json)
    if options.verb == "wait":
        return show_job(wait_for_end(api, options.id, timeout=options.timeout), output)
    output.record(api.get(f"/v1/jobs/{quoted(options.id)}", {"group": options.group}))
    return ExitCode.OK
