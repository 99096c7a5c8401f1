"""ApiVersions (18): what is served, in Kafka's numbers. v3+: client name and version, features (KIP-511, KIP-584)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode
from logqueue.protocol.frames import api_versions_response
from logqueue.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

LEVEL_ZERO_SINCE = 4  # KAFKA-17011: older clients fail at a feature that begins at level 0
_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


def handle(broker: Broker, request: ApiVersionsRequest, slot: Slot) -> ApiVersionsResponse:
    names = (request.client_software_name, request.client_software_version)
    if slot.api_version >= 3 and not all(map(_SOFTWARE.fullmatch, names)):
        return ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST)
    response: ApiVersionsResponse = api_versions_response(
        finalized=broker.features.finalized, finalized_epoch=broker.features.epoch
    )
    if slot.api_version < LEVEL_ZERO_SINCE:
        features = response.supported_features
        response.supported_features = [feature for feature in features if feature.min_version > 0]
    return response
