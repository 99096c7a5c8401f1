"""A PostgreSQL server of the tests' own: a new cluster on a free port, run by an unprivileged user."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.engines.apache import free_ports
from tests.engines.guard import ended_with_us

START_SECONDS = 60
PACKAGED = "/usr/lib/postgresql"


class PostgresMissing(Exception):
    """This machine has no PostgreSQL; the text says what is missing."""


@contextmanager
def postgres(*, fsync: bool = False) -> Iterator[str]:
    """Run a server; the URL of its superuser's database. Without `fsync` it does not wait for the disk."""
    initdb, pg_ctl = _program("initdb"), _program("pg_ctl")
    user = _unprivileged()
    (port,) = free_ports(1)
    # Not where TMPDIR may point: the other user has to get there.
    with tempfile.TemporaryDirectory(prefix="logqueue-postgres-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        if user is not None:
            shutil.chown(folder, user)
        data = Path(folder) / "data"

        def run(*command: str) -> None:
            done = subprocess.run(
                command,
                user=user,
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=START_SECONDS,
                env=_environment(),
            )
            assert done.returncode == 0, f"{command[0]}: {done.stdout[-1000:]}{done.stderr[-1000:]}"

        run(initdb, "-D", str(data), "-U", "logqueue", "--auth=trust", "--no-sync", "-E", "UTF8")
        options = (
            f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync={'on' if fsync else 'off'}"
        )
        # The server's output goes to a file: a pipe would be held open by it after pg_ctl has ended.
        run(pg_ctl, "-D", str(data), "-o", options, "-l", str(Path(folder) / "log"), "-w", "start")
        postmaster = int((data / "postmaster.pid").read_text().splitlines()[0])
        try:
            with ended_with_us(postmaster):
                yield f"postgresql://logqueue@127.0.0.1:{port}/postgres"
        finally:
            run(pg_ctl, "-D", str(data), "-m", "immediate", "-w", "stop")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        packaged = sorted(Path(PACKAGED).glob(f"*/bin/{name}"))
        found = str(packaged[-1]) if packaged else None
    if found is None:
        raise PostgresMissing(f"PostgreSQL is not installed (Debian package postgresql): no {name}")
    return found


def _unprivileged() -> str | None:
    """Who runs the server where the tests run as root, which it refuses."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise PostgresMissing("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}
