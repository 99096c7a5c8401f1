"""What a principal must be allowed to, API by API. Imported only where an authorizer is configured.

A guard is a function `(access, request, version) -> Message | Amend | None`. It takes out of the request what its
sender may not do, so that the handler never sees it, and answers

    None        the handler's response is the answer
    a function  which completes the handler's response, with the errors of what was taken out or without what
                the sender may not see
    a Message   the answer: the handler is not asked at all

`table.GUARDS` has one for every API, and what is not in the table is refused. Operations and resources are those of
Apache Kafka ("Authorization and ACLs" in its documentation, and KIP-11, 98, 290, 430, 599, 679, 848).
"""
