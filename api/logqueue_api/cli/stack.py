"""Where the stack is: flags, then the environment, then run.json, then localhost. Connects to nothing."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from logqueue_api.cli.exits import UsageError
from logqueue_api.up import run_file

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"
DEFAULT_API = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Addresses of a stack. `*_source` says where each was found, for messages; `is_running`: by a run.json."""

    bootstrap: str
    bootstrap_source: str
    api: str
    api_source: str
    is_running: bool = False


def use_config(options: argparse.Namespace) -> None:
    """The settings file of --config becomes that of this process and its children."""
    if options.config:
        os.environ["LOGQUEUE_CONFIG"] = options.config


def find_stack(options: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Stack:
    """The addresses a command uses; raises UsageError where one is none."""
    run = None
    if not (options.bootstrap and options.api):
        run = run_file.read(options.data_dir)
    place = str(options.data_dir / run_file.RUN_FILE)
    bootstrap, bootstrap_source = _first(
        (options.bootstrap, "--bootstrap"),
        (environ.get("LOGQUEUE_BOOTSTRAP"), "LOGQUEUE_BOOTSTRAP"),
        (_file_bootstrap(environ), "the settings file"),
        (run.bootstrap if run else None, place),
        (DEFAULT_BOOTSTRAP, _why_default(options.data_dir)),
    )
    api, api_source = _first(
        (options.api, "--api"),
        (environ.get("LOGQUEUE_API"), "LOGQUEUE_API"),
        (run.api if run else None, place),
        (DEFAULT_API, _why_default(options.data_dir)),
    )
    return Stack(
        bootstrap=check_bootstrap(bootstrap, bootstrap_source),
        bootstrap_source=bootstrap_source,
        api=_check_api(api, api_source),
        api_source=api_source,
        is_running=place in (bootstrap_source, api_source),
    )


def _why_default(data_dir: Path) -> str:
    """Why localhost is asked: nothing runs on the data folder, or something did and left its run.json."""
    if (data_dir / run_file.RUN_FILE).is_file():
        return f"the default; the `logqueue up` that wrote {data_dir / run_file.RUN_FILE} does not run any more"
    return f"the default; no run.json in {data_dir}"


def outside_bootstrap(flag: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """The cluster that `up` and others are told to use (flag, environment, settings file); None: the embedded log."""
    for value, source in (
        (flag, "--bootstrap"),
        (environ.get("LOGQUEUE_BOOTSTRAP"), "LOGQUEUE_BOOTSTRAP"),
        (_file_bootstrap(environ), "the settings file"),
    ):
        if value:
            return check_bootstrap(value, source)
    return None


def _file_bootstrap(environ: Mapping[str, str]) -> str | None:
    """`bootstrap` of the settings file; most commands run without one, and then nothing is imported for it."""
    if not environ.get("LOGQUEUE_CONFIG") and not Path("logqueue.toml").is_file():
        return None
    from logqueue.jobs.settings import read_settings_file

    value = read_settings_file(environ=environ).get("bootstrap")
    return str(value) if value is not None else None


def check_bootstrap(text: str, source: str) -> str:
    """`host:port[,host:port...]` itself, or UsageError."""
    for server in text.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) <= 65_535:
            raise UsageError(f"{server.strip()!r} ({source}) is not HOST:PORT", hint="for example 127.0.0.1:9092")
    return text


def _check_api(text: str, source: str) -> str:
    if not _is_url(text):
        raise UsageError(f"{text!r} ({source}) is not a URL", hint=f"for example {DEFAULT_API}")
    return text.rstrip("/")


def _is_url(text: str) -> bool:
    from urllib.parse import urlsplit

    if not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:  # a bracket that is not closed, a port that is no number, a label that is too long
        return False
    return parts.scheme in ("http", "https") and bool(host) and port != 0 and parts.path.isascii()


def _first(*choices: tuple[str | None, str]) -> tuple[str, str]:
    for value, source in choices:
        if value:
            return value, source
    raise AssertionError("the last choice is a default")
