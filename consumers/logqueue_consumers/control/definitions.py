"""What a worker publishes about its app: the definitions of the jobs, in `jobs.control`. No IO.

An API process needs no user code: it folds these records (key `definition/<app>/<type>`) and checks arguments itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from logqueue.jobs.topics import TopicNames
from logqueue_consumers.writing.outgoing import Outgoing

if TYPE_CHECKING:
    from logqueue.jobs.app import App


def definition_key(app: str, type_: str) -> bytes:
    """Key of a definition in the control topic."""
    return f"definition/{app}/{type_}".encode()


def definition_records(app: App, names: TopicNames, now_ms: int) -> list[Outgoing]:
    """One control record per job of the app, and one record with all its schedules (none: those of before end)."""
    schedules = msgspec.json.encode(dict(app.schedules)) if app.schedules else None
    declared = Outgoing(names.schedules, 0, f"declared/{app.name}".encode(), schedules, [], now_ms)
    return [
        declared,
        *(
            Outgoing(
                names.control,
                0,
                definition_key(app.name, str(description["type"])),
                msgspec.json.encode(description),
                [("content-type", b"application/json")],
                now_ms,
            )
            for description in app.describe()
        ),
    ]
