"""What a consumer group (KIP-848) refuses, each with its wire code. The texts go to the client."""

from __future__ import annotations

from logqueue.errors import ErrorCode
from logqueue.group.errors import GroupError


class InvalidHeartbeat(GroupError):
    """A heartbeat whose fields contradict each other."""

    code = ErrorCode.INVALID_REQUEST


class FencedMemberEpoch(GroupError):
    """The member is at another epoch than the coordinator's: it gives everything up and joins again."""

    code = ErrorCode.FENCED_MEMBER_EPOCH

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason} The member must abandon all its partitions and rejoin.")


class StaleMemberEpoch(GroupError):
    """A commit or fetch at another epoch than the member's: the client asks again with its new one."""

    code = ErrorCode.STALE_MEMBER_EPOCH

    def __init__(self, *, expected: int, got: int) -> None:
        super().__init__(f"The received member epoch {got} does not match the expected member epoch {expected}.")


class UnreleasedInstance(GroupError):
    """The instance id is another living member's, which has not left."""

    code = ErrorCode.UNRELEASED_INSTANCE_ID

    def __init__(self, instance_id: str, *, owner: str, member_id: str) -> None:
        super().__init__(
            f"Static member {member_id} with instance id {instance_id} cannot join the group because the instance id "
            f"is owned by {owner} member."
        )


class FencedStaticMember(GroupError):
    """The instance id now belongs to another member id."""

    code = ErrorCode.FENCED_INSTANCE_ID

    def __init__(self, instance_id: str, *, owner: str, member_id: str) -> None:
        super().__init__(f"Static member {member_id} with instance id {instance_id} was fenced by member {owner}.")


class NotAMember(GroupError):
    """No such member in the group."""

    code = ErrorCode.UNKNOWN_MEMBER_ID


class UnsupportedAssignor(GroupError):
    """The broker has no such assignor."""

    code = ErrorCode.UNSUPPORTED_ASSIGNOR

    def __init__(self, name: str, supported: tuple[str, ...]) -> None:
        super().__init__(f"ServerAssignor {name} is not supported. Supported assignors: {', '.join(supported)}.")


class ConsumerGroupIsFull(GroupError):
    """The group has as many members as it may."""

    code = ErrorCode.GROUP_MAX_SIZE_REACHED

    def __init__(self, limit: int) -> None:
        super().__init__(f"The consumer group has reached its maximum capacity of {limit} members.")


class NotAConsumerGroup(GroupError):
    """There is no such consumer group, and the request or the migration policy does not allow to make one."""

    code = ErrorCode.GROUP_ID_NOT_FOUND


class InconsistentMember(GroupError):
    """A classic client that the group cannot take in."""

    code = ErrorCode.INCONSISTENT_GROUP_PROTOCOL


class TooOldCommit(GroupError):
    """A member of the consumer protocol has to name its epoch, which older versions of OffsetCommit cannot."""

    code = ErrorCode.UNSUPPORTED_VERSION

    def __init__(self) -> None:
        super().__init__("OffsetCommit version 9 or above must be used by members using the modern group protocol")
