"""/v1/topics: the log itself, record by record."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from logqueue.ids import TopicPartition
from logqueue_api.rest.answers import json_answer, read_limit
from logqueue_api.rest.models import RecordPage, TopicBounds, TopicList
from logqueue_api.rest.openapi import answers
from logqueue_api.rest.problems import invalid
from logqueue_api.rest.record_view import record_document
from logqueue_api.rest.services import ServicesOf

router = APIRouter(tags=["the log"])


@router.get("/v1/topics", responses=answers(TopicList, 400, 503), summary="Topics of the log")
async def list_topics(services: ServicesOf) -> Response:
    """Every topic, with what it is for where it is one of the job system's."""
    names = services.settings.topics
    items: list[dict[str, Any]] = []
    for topic, partitions in sorted((await services.cluster.topics()).items()):
        role = names.role(topic)
        items.append(
            {
                "topic": topic,
                "kind": None if role is None else role.kind.value,
                "queue": None if role is None else role.queue,
                "group": None if role is None else role.group,
                "partitions": partitions,
            }
        )
    return json_answer({"items": items})


@router.get(
    "/v1/topics/{topic}",
    responses=answers(TopicBounds, 400, 403, 404, 503),
    summary="Where the partitions of a topic start and end",
)
async def get_topic(topic: str, services: ServicesOf) -> Response:
    """A partition holds no records where `start` is `end`."""
    bounds = await services.cluster.bounds(topic)
    partitions = [{"partition": number, "start": start, "end": end} for number, (start, end) in sorted(bounds.items())]
    return json_answer({"topic": topic, "partitions": partitions})


@router.get(
    "/v1/topics/{topic}/records",
    responses=answers(RecordPage, 400, 403, 404, 503),
    summary="Records of a partition",
)
async def list_records(
    topic: str,
    services: ServicesOf,
    partition: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    offset: Annotated[
        str, Query(description="A number, `earliest`, or `latest` for the last `limit` records.")
    ] = "earliest",
    limit: Annotated[int, Query(description="Records in a page.")] = 50,
) -> Response:
    """Values are shown as JSON where they are JSON or a status in Avro, else as text, else in base64."""
    read_limit(limit, services.limits.max_records)
    wanted = _read_offset(offset)

    def choose(start: int, end: int) -> int:
        if wanted is not None:
            return wanted
        return start if offset == "earliest" else end - limit

    found = await services.cluster.read(
        TopicPartition(topic, partition), choose=choose, limit=limit, max_bytes=services.limits.max_records_bytes
    )
    document = {
        "topic": topic,
        "partition": partition,
        "start": found.start,
        "end": found.end,
        "items": [record_document(record) for record in found.records],
        "next_offset": found.next_offset,
    }
    return json_answer(document)


def _read_offset(text: str) -> int | None:
    if text in ("earliest", "latest"):
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise invalid("offset", "must be a number, `earliest` or `latest`")
    return int(text)
