"""CreateAcls (30): add ACLs; those that are there already count as added (KIP-140, KIP-290)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.create_acls import AclCreationResult, CreateAclsRequest, CreateAclsResponse
from logqueue.security.acl import Acl

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

DISABLED = AclCreationResult(error_code=ErrorCode.SECURITY_DISABLED, error_message="No Authorizer is configured.")


def handle(broker: Broker, request: CreateAclsRequest, slot: Slot) -> CreateAclsResponse:
    authorizer = broker.security.authorizer
    if authorizer is None:
        return CreateAclsResponse(results=[DISABLED for _ in request.creations])
    results = []
    added: set[Acl] = set()
    for wanted in request.creations:
        result = AclCreationResult()
        try:
            added.add(
                Acl.of(
                    resource_type=wanted.resource_type,
                    name=wanted.resource_name,
                    pattern=wanted.resource_pattern_type,
                    principal=wanted.principal,
                    host=wanted.host,
                    operation=wanted.operation,
                    permission=wanted.permission_type,
                )
            )
        except KafkaError as error:
            result.error_code, result.error_message = error.code, error.detail
        results.append(result)
    if added - authorizer.acls:
        try:
            broker.security.set_acls(authorizer.acls | added)
        except KafkaError as error:
            for result in results:
                if not result.error_code:
                    result.error_code, result.error_message = error.code, error.detail
    return CreateAclsResponse(results=results)
