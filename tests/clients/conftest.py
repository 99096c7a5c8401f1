"""One embedded broker that the client tests share, in a process of its own as users run it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engines.embedded import embedded


@pytest.fixture(scope="session")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of the shared broker."""
    with embedded(tmp_path_factory.mktemp("clients")) as address:
        yield address
