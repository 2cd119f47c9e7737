"""What ordinary routes depend on: the server, and a key with the right scope."""

from typing import Annotated, Any

from fastapi import Depends, Header, Request

from service.errors import UnknownPolicyError
from service.inference.served import ServedPolicy
from service.keys import Scope
from service.server import Server


def server_of(request: Request) -> Server:
    """The server that the application was built around."""
    server: Server = request.app.state.server
    return server


ServerDep = Annotated[Server, Depends(server_of)]


def needs(scope: Scope) -> Any:
    """A dependency that refuses a key without the scope, and else gives the key's name."""

    def authorise(
        server: ServerDep,
        authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
    ) -> str:
        header = None if authorization is None else authorization.encode()
        return server.keys.authorise(header, scope)

    return Depends(authorise)


def served_policy(server: ServerDep, policy: str) -> ServedPolicy:
    """The policy in the path."""
    if policy not in server.policies:
        raise UnknownPolicyError(
            f"policy: expected one of {sorted(server.policies)}, found {policy[:64]!r}"
        )
    return server.policies[policy]


ServedDep = Annotated[ServedPolicy, Depends(served_policy)]
