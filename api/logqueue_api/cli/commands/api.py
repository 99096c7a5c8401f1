"""Run the HTTP API with the dashboard and the view of all jobs (folded from the log into <data-dir>/view.sqlite)."""

from __future__ import annotations

import argparse
import fcntl
import time
from pathlib import Path
from tempfile import TemporaryFile

from logqueue_api.cli.arguments import DEFAULT_HTTP_PORT, port
from logqueue_api.cli.exits import CommandError, ExitCode
from logqueue_api.cli.serving import add_serving, begin

VIEW_FILE = "view.sqlite"
LOCK_FILE = f"{VIEW_FILE}.lock"  # held by the process that writes the view
LOCK_ATTEMPTS = 30  # the view's writer outlives a killed API by a moment
LOCK_PAUSE_SECONDS = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument(
        "--http-port",
        type=port,
        default=DEFAULT_HTTP_PORT,
        metavar="P",
        help=f"0 takes any free one ({DEFAULT_HTTP_PORT})",
    )
    parser.add_argument(
        "--health-workers", action="store_true", help="/healthz fails too while a worker lives and gets on with nothing"
    )
    parser.add_argument("--app", metavar="APP", help="what POST /v1/replays runs (module:name or file.py[:name])")
    add_serving(parser)


def run(options: argparse.Namespace) -> int:
    stack, output = begin(options)

    from logqueue.jobs.settings import load_settings, read_settings_file
    from logqueue_api.rest.limits import ApiLimits
    from logqueue_api.rest.server import PortTaken, run_api
    from logqueue_api.rest.services import ApiOptions

    settings = load_settings(bootstrap=stack.bootstrap)
    limits = ApiLimits.load(read_settings_file().get("api"))
    _check_folder(options.data_dir)
    try:
        run_api(
            settings,
            host=options.host,
            port=options.http_port,
            view_path=options.data_dir / VIEW_FILE,
            limits=limits,
            options=ApiOptions(counts_workers=options.health_workers, app=options.app),
            on_ready=lambda url: output.event({"event": "ready", "api": url}, f"logqueue api ready on {url}"),
        )
    except PortTaken as error:
        raise CommandError(str(error), code=ExitCode.IN_USE) from error
    return ExitCode.OK


def _check_folder(folder: Path) -> None:
    """The view goes into the folder, and is begun anew in a file beside the old one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
        is_free = _is_free(folder / LOCK_FILE)
    except OSError as error:
        raise CommandError(
            f"the data folder {folder} cannot be used: {error.strerror}",
            code=ExitCode.IN_USE,
            hint="--data-dir D takes another folder",
        ) from error
    if not is_free:
        raise CommandError(
            f"the data folder {folder} is in use: another API writes its view",
            code=ExitCode.IN_USE,
            hint="--data-dir D takes another folder",
        )


def _is_free(lock: Path) -> bool:
    """Whether nobody holds the lock, or lets go of it soon."""
    with lock.open("ab") as file:
        for attempt in range(LOCK_ATTEMPTS):
            if attempt:
                time.sleep(LOCK_PAUSE_SECONDS)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            return True
    return False
