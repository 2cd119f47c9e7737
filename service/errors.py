"""What a client sees when something is refused or fails.

ServiceError
├── InvalidRequestError      422  the body is not what the call takes
│   └── InvalidObservationError
├── MalformedBodyError       400  the body is not JSON or MessagePack
├── PayloadTooLargeError     413
├── HeadTooLargeError        431  the lines before the body
├── UnsupportedEncodingError 415
├── UnauthorizedError        401
├── ForbiddenError           403
├── UnknownPolicyError       404
├── UnknownPathError         404
├── MethodNotAllowedError    405
├── ConflictError            409  the state moved since the caller looked
├── OverloadedError          429
├── FallbackRefusedError     424  `on_fallback: error`, and the model did not answer
├── RequestTimeoutError      408
├── NotReadyError            503  starting or draining
├── LedgerAwayError          503  a change cannot be written down
├── SpoolFullError           507  nothing more can be made durable
└── InternalError            500
"""


class ServiceError(Exception):
    """Something a client is told: its type knows the status and the code."""

    status = 500
    code = "internal"
    headers: tuple[tuple[str, str], ...] = ()


class InvalidRequestError(ServiceError):
    """The body is well-formed and does not say what the call needs."""

    status = 422
    code = "invalid_request"


class InvalidObservationError(InvalidRequestError):
    """An observation does not fit the policy."""

    code = "invalid_observation"


class MalformedBodyError(ServiceError):
    """The body cannot be decoded at all."""

    status = 400
    code = "malformed_body"


class PayloadTooLargeError(ServiceError):
    """The body is over the limit."""

    status = 413
    code = "payload_too_large"


class HeadTooLargeError(ServiceError):
    """The request's line and headers are over the limit."""

    status = 431
    code = "head_too_large"


class UnsupportedEncodingError(ServiceError):
    """The body is compressed in a way that is not read."""

    status = 415
    code = "unsupported_encoding"
    headers = (("accept-encoding", "gzip, deflate"),)


class UnauthorizedError(ServiceError):
    """No key, or none that is known."""

    status = 401
    code = "unauthorized"
    headers = (("www-authenticate", "Bearer"),)


class ForbiddenError(ServiceError):
    """The key does not carry the scope that the call needs."""

    status = 403
    code = "forbidden"


class UnknownPolicyError(ServiceError):
    """No policy of that name is declared."""

    status = 404
    code = "unknown_policy"


class UnknownPathError(ServiceError):
    """There is nothing at that path."""

    status = 404
    code = "not_found"


class MethodNotAllowedError(ServiceError):
    """The path does not take that method."""

    status = 405
    code = "method_not_allowed"


class ConflictError(ServiceError):
    """What the caller expected is no longer so."""

    status = 409
    code = "conflict"


class OverloadedError(ServiceError):
    """More is waiting than can be answered, even by the heuristic."""

    status = 429
    code = "overloaded"
    headers = (("retry-after", "1"),)


class FallbackRefusedError(ServiceError):
    """The model did not answer and the caller wants no heuristic's guess."""

    status = 424
    code = "fallback_refused"


class RequestTimeoutError(ServiceError):
    """The request did not arrive in time."""

    status = 408
    code = "request_timeout"


class NotReadyError(ServiceError):
    """The server is starting or draining."""

    status = 503
    code = "not_ready"
    headers = (("retry-after", "1"),)


class LedgerAwayError(ServiceError):
    """The ledger cannot be written: cut off from the other replicas, or the disk is full."""

    status = 503
    code = "ledger_away"
    headers = (("retry-after", "5"),)


class SpoolFullError(ServiceError):
    """The spool is at its cap or its disk is full: nothing was accepted."""

    status = 507
    code = "spool_full"


class InternalError(ServiceError):
    """Not foreseen; the log has it, the client is told nothing of it."""


_TYPES: tuple[type[ServiceError], ...] = (
    ServiceError,
    InvalidObservationError,
    *ServiceError.__subclasses__(),
)
ERROR_CODES = frozenset(error.code for error in _TYPES)
ERROR_STATUSES = frozenset(error.status for error in _TYPES)
