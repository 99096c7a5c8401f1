"""DescribeAcls (29): the ACLs that match a filter (KIP-140, KIP-290)."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.describe_acls import (
    AclDescription,
    DescribeAclsRequest,
    DescribeAclsResource,
    DescribeAclsResponse,
)
from logqueue.security.acl import AclFilter

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: DescribeAclsRequest, slot: Slot) -> DescribeAclsResponse:
    authorizer = broker.security.authorizer
    if authorizer is None:
        return DescribeAclsResponse(
            error_code=ErrorCode.SECURITY_DISABLED, error_message="No Authorizer is configured on the broker"
        )
    try:
        wanted = AclFilter.of(
            resource_type=request.resource_type_filter,
            name=request.resource_name_filter,
            pattern=request.pattern_type_filter,
            principal=request.principal_filter,
            host=request.host_filter,
            operation=request.operation,
            permission=request.permission_type,
        )
    except KafkaError as error:
        return DescribeAclsResponse(error_code=error.code, error_message=error.detail)
    return DescribeAclsResponse(
        resources=[
            DescribeAclsResource(
                resource_type=kind,
                resource_name=name,
                pattern_type=pattern,
                acls=[
                    AclDescription(
                        principal=acl.principal, host=acl.host, operation=acl.operation, permission_type=acl.permission
                    )
                    for acl in acls
                ],
            )
            for (kind, name, pattern), acls in groupby(
                authorizer.find(wanted), key=lambda acl: (acl.resource_type, acl.name, acl.pattern)
            )
        ]
    )
