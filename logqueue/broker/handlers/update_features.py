"""UpdateFeatures (57): finalize feature levels (KIP-584). v1+: kinds of change, and asking only; v2+: one answer."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode, KafkaError, shortened
from logqueue.protocol.messages.update_features import (
    FeatureUpdateKey,
    UpdatableFeatureResult,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

METADATA_VERSION = "metadata.version"
FIRST_WITHOUT_RESULTS = 2


class UpgradeType(IntEnum):
    """What a change may be; an unsafe downgrade may lose what the new level knew."""

    UPGRADE = 1
    SAFE_DOWNGRADE = 2
    UNSAFE_DOWNGRADE = 3


def handle(broker: Broker, request: UpdateFeaturesRequest, slot: Slot) -> UpdateFeaturesResponse:
    """All changes are made, or none: then the first error is the answer, without results, in every version."""
    levels = {each.feature: each.max_version_level for each in request.feature_updates}
    for update in request.feature_updates:
        try:
            _check(broker, update, version=slot.api_version)
        except KafkaError as error:
            return UpdateFeaturesResponse(
                error_code=error.code,
                error_message=shortened(
                    "The update failed for all features since the following feature had an error: "
                    f"Invalid update version {update.max_version_level} for feature {update.feature}. {error.detail}"
                ),
            )
    if levels and not (slot.api_version >= 1 and request.validate_only):
        try:
            broker.update_features(levels)
        except KafkaError as error:
            return UpdateFeaturesResponse(error_code=error.code, error_message=error.detail)
    if slot.api_version >= FIRST_WITHOUT_RESULTS:
        return UpdateFeaturesResponse()
    return UpdateFeaturesResponse(results=[UpdatableFeatureResult(feature=name) for name in levels])


def _check(broker: Broker, update: FeatureUpdateKey, *, version: int) -> None:
    level, present = update.max_version_level, broker.features.level(update.feature)
    if version == 0:
        kind = UpgradeType.SAFE_DOWNGRADE if update.allow_downgrade else UpgradeType.UPGRADE
    elif update.upgrade_type in list(UpgradeType):
        kind = UpgradeType(update.upgrade_type)
    else:
        raise KafkaError(
            "The controller does not support the given upgrade type.", code=ErrorCode.INVALID_UPDATE_VERSION
        )
    try:
        broker.features.check(update.feature, level)
    except KafkaError as error:
        raise KafkaError(error.detail, code=ErrorCode.INVALID_UPDATE_VERSION) from None
    if kind is UpgradeType.UPGRADE and level < present:
        raise KafkaError(
            f"Can't downgrade the version of this feature from {present} to {level} without setting the upgrade type "
            "to either safe or unsafe downgrade.",
            code=ErrorCode.INVALID_UPDATE_VERSION,
        )
    if kind is not UpgradeType.UPGRADE and level > present:
        raise KafkaError("Can't downgrade to a newer version.", code=ErrorCode.INVALID_UPDATE_VERSION)
    if update.feature == METADATA_VERSION and level != present:
        raise KafkaError(
            f"{METADATA_VERSION} is {present} here: there is no metadata log that another level would change.",
            code=ErrorCode.INVALID_UPDATE_VERSION,
        )
