"""Who asks for a change, as it is kept with every operator command: `--by`, else user@host."""

from __future__ import annotations

import argparse


def add_by(parser: argparse.ArgumentParser) -> None:
    """`--by`."""
    parser.add_argument("--by", metavar="WHO", help="who asks for this, for the audit log (default: user@host)")


def actor(options: argparse.Namespace) -> str:
    """The name to keep."""
    if options.by:
        return str(options.by)
    import getpass
    import socket

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
