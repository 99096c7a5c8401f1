"""Bodies of requests about dead letters, and what they mean. Values; reads the catalogue of published jobs."""

from __future__ import annotations

from collections.abc import Callable

from logqueue_consumers.control.pace import MAX_RATE, Pace
from logqueue_consumers.control.rounds import Round
from logqueue_consumers.letters.dead_letters import LetterFilter, read_position
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from logqueue.jobs.errors import ErrorClass
from logqueue.jobs.times import to_ms
from logqueue_api.rest.letter_edit import letter_edit
from logqueue_api.rest.models import TypeName
from logqueue_api.rest.problems import invalid
from logqueue_api.rest.services import Services
from logqueue_api.rest.wire import check_arguments

MAX_REPLAYED = 10_000  # in one request; ask again for more
MAX_REPLAY_HOURS = 24
"""No request stops a replay, and a few of them are all that may run: at its rate it ends within this."""
TOPIC_TEXT = "A topic of dead letters that another system filled (Spring Kafka, Kafka Connect, share groups)."
GROUP_TEXT = "The group whose dead letters are meant; needed where several groups have some of this queue."


class LetterRequest(BaseModel):
    """Which dead letters are meant, oldest first. Closed ones are left out; one that is named is refused (409)."""

    model_config = ConfigDict(extra="forbid")

    group: str | None = Field(None, description=GROUP_TEXT)
    topic: str | None = Field(None, max_length=249, description=TOPIC_TEXT)
    ids: list[str] = Field(
        default_factory=list,
        max_length=MAX_REPLAYED,
        description="Job ids or `partition:offset`; empty: all that match.",
    )
    type: str | None = None
    tenant: str | None = None
    error_type: str | None = None
    error_class: ErrorClass | None = None
    since: AwareDatetime | None = Field(None, description="Died at or after this time.")
    until: AwareDatetime | None = Field(None, description="Died before this time.")
    limit: int = Field(1_000, ge=1, le=MAX_REPLAYED)
    dry_run: bool = Field(False, description="Only count.")


class ReplayRequest(LetterRequest):
    """Which dead letters to send round again, oldest first, how fast, and when to stop."""

    rate: float | None = Field(
        None,
        gt=0,
        le=MAX_RATE,
        description="Jobs a second. Default: as fast as the log takes them. `limit` (or `ids`) jobs end within a day.",
    )
    max_failed_share: float = Field(0.5, ge=0, le=1, description="Stop when more than this share fails again.")
    min_sample: int = Field(20, ge=1, description="... once this many have ended or failed.")
    again: bool = Field(False, description="Letters in `ids` that are closed go round once more.")
    args: dict[str, JsonValue] | None = Field(None, description="Other arguments, for the one job that `ids` names.")
    as_type: TypeName | None = Field(None, description="Another job type, such as for letters that name none.")


def filter_of(asked: LetterRequest) -> LetterFilter:
    """Which letters a request means."""
    places = {place for text in asked.ids if (place := read_position(text)) is not None}
    return LetterFilter(
        ids=frozenset(asked.ids),
        positions=frozenset(places),
        type=asked.type,
        tenant=asked.tenant,
        error_type=asked.error_type,
        error_class=asked.error_class,
        since_ms=None if asked.since is None else to_ms(asked.since),
        until_ms=None if asked.until is None else to_ms(asked.until),
    )


def pace_of(asked: ReplayRequest) -> Pace:
    """How fast, and when to stop; 400 for a rate at which as many as are asked for take longer than a day."""
    most = min(asked.limit, len(asked.ids) or asked.limit)
    if asked.rate is not None and most / asked.rate > MAX_REPLAY_HOURS * 3600:
        told = f"at {asked.rate:g} a second {most:,} jobs take longer than {MAX_REPLAY_HOURS} hours"
        raise invalid("rate", f"{told}; raise it, or ask for fewer at a time (`limit`)")
    return Pace(rate=asked.rate, max_failed_share=asked.max_failed_share, min_sample=asked.min_sample)


def edit_of(asked: ReplayRequest, queue: str, services: Services) -> Callable[[Round], Round] | None:
    """What changes a job on its way; 400 for arguments that its handler does not take."""
    if asked.again and not asked.ids:
        raise invalid("again", "only letters that are named can go round once more; name them in `ids`")
    if asked.args is not None and len(asked.ids) != 1:
        raise invalid("args", "only one job can get other arguments; name it in `ids`")
    check_arguments("args", asked.args or {})
    return letter_edit(services.view.catalogue, queue=queue, args=asked.args, as_type=asked.as_type)
