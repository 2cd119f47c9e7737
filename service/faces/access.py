"""What ordinary routes depend on: the server, and a key with the right scope."""

from typing import Annotated, Any

from fastapi import Depends, Header, Request

from service.errors import UnknownPathError, UnknownPolicyError
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


def _refuse_agents_port(request: Request) -> None:
    admin_port: int | None = request.app.state.admin_port
    if admin_port is not None and request.scope["server"][1] != admin_port:
        raise UnknownPathError("there is nothing at this path for agents")


OPERATORS_PORT = Depends(_refuse_agents_port)
"""A dependency that refuses what came by the agents' port, where operators have their own."""


def served_policy(server: ServerDep, policy: str) -> ServedPolicy:
    """The policy in the path."""
    if policy not in server.policies:
        raise UnknownPolicyError(
            f"policy: expected one of {sorted(server.policies)}, found {policy[:64]!r}"
        )
    return server.policies[policy]


ServedDep = Annotated[ServedPolicy, Depends(served_policy)]
