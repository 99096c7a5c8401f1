"""What a group refuses, each with its wire code and the values that were wrong."""

from __future__ import annotations

from logqueue.errors import ErrorCode, KafkaError


class GroupError(KafkaError):
    """A request that the group's present state does not allow."""


class UnknownMember(GroupError):
    """The member id (or instance id) is not in the group: the client resets and joins anew."""

    code = ErrorCode.UNKNOWN_MEMBER_ID

    def __init__(self, group_id: str, member_id: str) -> None:
        super().__init__(f"member {member_id!r} is not in group {group_id}")


class FencedInstance(GroupError):
    """Another member has taken over the instance id (KIP-345): this one has to stop."""

    code = ErrorCode.FENCED_INSTANCE_ID

    def __init__(self, group_id: str, instance_id: str, *, owner: str, member_id: str) -> None:
        super().__init__(f"instance {instance_id!r} of group {group_id} now belongs to {owner!r}, not to {member_id!r}")


class IllegalGeneration(GroupError):
    """The request speaks of another generation than the group's."""

    code = ErrorCode.ILLEGAL_GENERATION

    def __init__(self, group_id: str, *, expected: int, got: int) -> None:
        super().__init__(f"group {group_id} is at generation {expected}, the request says {got}")


class RebalanceInProgress(GroupError):
    """The group is between generations: the client joins again."""

    code = ErrorCode.REBALANCE_IN_PROGRESS

    def __init__(self, group_id: str) -> None:
        super().__init__(f"group {group_id} is rebalancing")


class InconsistentProtocol(GroupError):
    """Protocol type or protocols do not fit the group's."""

    code = ErrorCode.INCONSISTENT_GROUP_PROTOCOL

    def __init__(self, group_id: str, detail: str) -> None:
        super().__init__(f"group {group_id}: {detail}")


class GroupNotFound(GroupError):
    """There is no such group."""

    code = ErrorCode.GROUP_ID_NOT_FOUND

    def __init__(self, group_id: str) -> None:
        super().__init__(f"Group {group_id} not found.")


class GroupNotEmpty(GroupError):
    """The group has members."""

    code = ErrorCode.NON_EMPTY_GROUP

    def __init__(self, group_id: str) -> None:
        super().__init__(f"The group {group_id} is not empty.")


class InvalidGroupId(GroupError):
    """The empty group id can hold offsets but no members; one that no record can hold is no group id."""

    code = ErrorCode.INVALID_GROUP_ID

    def __init__(self) -> None:
        super().__init__("the group id must have 1 to 32767 bytes")


class NameTooLong(GroupError):
    """An id or a name is longer than a record can hold."""

    code = ErrorCode.INVALID_REQUEST

    def __init__(self, group_id: str) -> None:
        super().__init__(f"group {group_id[:100]}: an id or a name is longer than 32767 bytes")


class InvalidSessionTimeout(GroupError):
    """The session timeout lies outside what the broker allows."""

    code = ErrorCode.INVALID_SESSION_TIMEOUT

    def __init__(self, session_timeout_ms: int, *, low: int, high: int) -> None:
        super().__init__(f"session timeout {session_timeout_ms} ms is not between {low} and {high} ms")


class MemberIdRequired(GroupError):
    """The client has to join again with the id it is given (KIP-394)."""

    code = ErrorCode.MEMBER_ID_REQUIRED

    def __init__(self, group_id: str, member_id: str) -> None:
        super().__init__(f"join group {group_id} again as {member_id!r}")
        self.member_id = member_id


class GroupIsFull(GroupError):
    """The group has as many members as it may."""

    code = ErrorCode.GROUP_MAX_SIZE_REACHED

    def __init__(self, group_id: str, limit: int) -> None:
        super().__init__(f"group {group_id} already has {limit} members")


class GroupIsDead(GroupError):
    """The group is being deleted: the client looks the coordinator up again and retries."""

    code = ErrorCode.COORDINATOR_NOT_AVAILABLE

    def __init__(self, group_id: str) -> None:
        super().__init__(f"group {group_id} is being deleted")


_APPEND_FAILURES = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.REQUEST_TIMED_OUT: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorCode.NOT_COORDINATOR,
    ErrorCode.KAFKA_STORAGE_ERROR: ErrorCode.NOT_COORDINATOR,
    ErrorCode.MESSAGE_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
    ErrorCode.RECORD_LIST_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
    ErrorCode.INVALID_FETCH_SIZE: ErrorCode.UNKNOWN_SERVER_ERROR,
}


def reply_code_for_failed_append(error: ErrorCode) -> ErrorCode:
    """What a client is told when the record behind its answer could not be written (Kafka's mapping)."""
    return _APPEND_FAILURES.get(error, error)
