"""DeleteAcls (31): remove the ACLs that match filters, and say which they were (KIP-140, KIP-290)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.delete_acls import (
    DeleteAclsFilter,
    DeleteAclsFilterResult,
    DeleteAclsMatchingAcl,
    DeleteAclsRequest,
    DeleteAclsResponse,
)
from logqueue.security.acl import Acl, AclFilter
from logqueue.security.authorizer import Authorizer

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: DeleteAclsRequest, slot: Slot) -> DeleteAclsResponse:
    authorizer = broker.security.authorizer
    if authorizer is None:
        disabled = DeleteAclsFilterResult(
            error_code=ErrorCode.SECURITY_DISABLED, error_message="No Authorizer is configured."
        )
        return DeleteAclsResponse(filter_results=[disabled for _ in request.filters])
    removed: set[Acl] = set()
    results = [_match(authorizer, wanted, removed) for wanted in request.filters]
    if removed:
        try:
            broker.security.set_acls(authorizer.acls - removed)
        except KafkaError as error:
            results = [
                DeleteAclsFilterResult(error_code=error.code, error_message=error.detail) for _ in request.filters
            ]
    return DeleteAclsResponse(filter_results=results)


def _match(authorizer: Authorizer, wanted: DeleteAclsFilter, removed: set[Acl]) -> DeleteAclsFilterResult:
    try:
        found = authorizer.find(
            AclFilter.of(
                resource_type=wanted.resource_type_filter,
                name=wanted.resource_name_filter,
                pattern=wanted.pattern_type_filter,
                principal=wanted.principal_filter,
                host=wanted.host_filter,
                operation=wanted.operation,
                permission=wanted.permission_type,
            )
        )
    except KafkaError as error:
        return DeleteAclsFilterResult(error_code=error.code, error_message=error.detail)
    removed.update(found)
    return DeleteAclsFilterResult(
        matching_acls=[
            DeleteAclsMatchingAcl(
                resource_type=acl.resource_type,
                resource_name=acl.name,
                pattern_type=acl.pattern,
                principal=acl.principal,
                host=acl.host,
                operation=acl.operation,
                permission_type=acl.permission,
            )
            for acl in found
        ]
    )
