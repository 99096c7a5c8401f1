"""A mark for tests of kafka-python, which may forget a socket: 3.0 closes a connection that has something to send
once it is sent (`KafkaTCPTransport.close`), and closing the client cancels that (`NetworkSelector.close`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def forgets_sockets(test: Callable[..., Any]) -> Callable[..., Any]:
    """No later test is blamed for what this one leaves behind: it is collected at its end, and unheard."""
    return pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")(
        pytest.mark.filterwarnings("ignore:.*unclosed <socket:pytest.PytestUnraisableExceptionWarning")(
            pytest.mark.usefixtures("collected")(test)
        )
    )
