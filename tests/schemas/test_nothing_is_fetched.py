"""A schema is written by whoever may register one or publish a job: no host or file that it names is asked for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from logqueue_api.rest.catalogue import Catalogue
from logqueue_api.rest.problems import Problem
from logqueue_schemas.avro import InvalidSchema
from logqueue_schemas.json_schema import read_json_schema


class Elsewhere(HTTPServer):
    """A host that notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/schema"


class Answering(BaseHTTPRequestHandler):
    server: Elsewhere

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Nothing is told."""


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def catalogue(schema: dict[str, Any]) -> Catalogue:
    job = {"app": "a", "group": "g", "type": "t", "queue": "q", "args_schema": schema}
    return Catalogue({"key": json.dumps(job).encode()})


def test_the_meta_schema_of_a_registered_schema_is_not_fetched(elsewhere: Elsewhere) -> None:
    with pytest.raises(InvalidSchema, match="not a JSON Schema"):
        read_json_schema(json.dumps({"$schema": elsewhere.url, "type": "object"}))
    assert elsewhere.asked == []


@pytest.mark.parametrize("word", ["$schema", "$ref"])
def test_what_a_published_schema_refers_to_is_not_fetched(elsewhere: Elsewhere, word: str) -> None:
    catalogue({"type": "object", word: elsewhere.url}).check({"to": 3}, type_="t", queue="q")
    assert elsewhere.asked == []


def test_what_a_published_schema_refers_to_is_not_opened(tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"type": "string"}')
    schema = {"type": "object", "properties": {"to": {"$ref": secret.as_uri()}}}
    catalogue(schema).check({"to": 3}, type_="t", queue="q")  # a Problem would tell what the file says


def test_what_it_refers_to_in_itself_is_found() -> None:
    schema = {"type": "object", "properties": {"to": {"$ref": "#/$defs/to"}}, "$defs": {"to": {"type": "string"}}}
    with pytest.raises(Problem, match="to: 3 is not of type"):
        catalogue(schema).check({"to": 3}, type_="t", queue="q")
