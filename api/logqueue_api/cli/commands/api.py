"""Run the HTTP API with the dashboard and the view of all jobs (folded from the log into <data-dir>/view.sqlite)."""

from __future__ import annotations

import argparse
import os

from logqueue_api.cli.arguments import DEFAULT_HTTP_PORT, add_stack, port
from logqueue_api.cli.exits import CommandError, ExitCode
from logqueue_api.cli.log_lines import add_log_level, configure
from logqueue_api.cli.output import Output
from logqueue_api.cli.stack import find_stack

VIEW_FILE = "view.sqlite"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument(
        "--http-port",
        type=port,
        default=DEFAULT_HTTP_PORT,
        metavar="P",
        help=f"0 takes any free one ({DEFAULT_HTTP_PORT})",
    )
    parser.add_argument("--config", metavar="FILE", help="settings file (LOGQUEUE_CONFIG, logqueue.toml)")
    add_log_level(parser)
    add_stack(parser)


def run(options: argparse.Namespace) -> int:
    if options.config:
        os.environ["LOGQUEUE_CONFIG"] = options.config
    stack = find_stack(options)
    configure(options.log_level)
    output = Output(is_json=options.json)

    from logqueue.jobs.settings import load_settings, read_settings_file
    from logqueue_api.rest.limits import ApiLimits
    from logqueue_api.rest.server import PortTaken, run_api

    settings = load_settings(bootstrap=stack.bootstrap)
    limits = ApiLimits.load(read_settings_file().get("api"))
    try:
        options.data_dir.mkdir(parents=True, exist_ok=True)
        run_api(
            settings,
            host=options.host,
            port=options.http_port,
            view_path=options.data_dir / VIEW_FILE,
            limits=limits,
            on_ready=lambda url: output.event({"event": "ready", "api": url}, f"logqueue api ready on {url}"),
        )
    except PortTaken as error:
        raise CommandError(str(error), code=ExitCode.IN_USE) from error
    except PermissionError as error:
        raise CommandError(
            f"the data folder {options.data_dir} cannot be used: {error.strerror}", code=ExitCode.IN_USE
        ) from error
    return ExitCode.OK
