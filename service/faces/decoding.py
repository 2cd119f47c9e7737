"""Bodies to values, with errors that name the field, what was found and what was expected."""

from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from contract.declaration import ActionSpec
from service.errors import InvalidRequestError, MalformedBodyError
from service.messages import Request

Body = TypeVar("Body")
Step = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A step within its episode; the log's codec holds 64 bits."""

Tags = Annotated[
    dict[
        Annotated[str, msgspec.Meta(min_length=1, max_length=64)],
        Annotated[str, msgspec.Meta(max_length=128)],
    ],
    msgspec.Meta(max_length=16),
]
"""What an operator breaks an incident down by, such as a region; for the log alone."""

MAX_ID_LENGTH: Final = 128
ABSENT: Final = msgspec.Raw()
"""Default of a raw field that may be left out: msgspec takes no `Raw | None`."""
_NULLS: Final = (b"", b"null", b"\xc0")
"""Nothing, or null in JSON or MessagePack."""


def is_given(raw: msgspec.Raw) -> bool:
    """Whether a raw field that may be left out says something."""
    return bytes(raw) not in _NULLS


def body_decoder(kind: type[Body]) -> Callable[[Request], Body]:
    """A function from a request to its body, JSON or MessagePack."""
    from_json = msgspec.json.Decoder(kind).decode
    from_msgpack = msgspec.msgpack.Decoder(kind).decode

    def decode(request: Request) -> Body:
        try:
            return from_msgpack(request.body) if request.is_msgpack else from_json(request.body)
        except msgspec.ValidationError as error:
            raise InvalidRequestError(str(error)) from error
        except msgspec.DecodeError as error:
            raise MalformedBodyError(str(error)) from error
        except RecursionError:
            raise MalformedBodyError("the body is nested too deeply") from None
        except UnicodeDecodeError as error:
            raise MalformedBodyError(f"the body is not UTF-8: {error.reason}") from error

    return decode


def decode_masks(
    masks: list[list[bool]] | None, rows: int, actions: ActionSpec
) -> npt.NDArray[np.bool_] | None:
    """Masks [N, num_actions]; every row leaves an action.

    Raises:
        InvalidRequestError: The policy takes none, or one does not fit.
    """
    if masks is None:
        return None
    if not actions.masked:
        raise InvalidRequestError("action_masks: this policy declares no action mask")
    if len(masks) != rows:
        raise InvalidRequestError(
            f"action_masks: expected {rows} rows, one an observation, found {len(masks)}"
        )
    for row, mask in enumerate(masks):
        if len(mask) != actions.count:
            raise InvalidRequestError(
                f"action_masks[{row}]: expected {actions.count} entries, found {len(mask)}"
            )
        if not any(mask):
            raise InvalidRequestError(f"action_masks[{row}]: leaves no legal action")
    return np.array(masks, dtype=np.bool_)


def check_column(values: list[Any] | None, rows: int, name: str) -> None:
    """Raise InvalidRequestError where a column has not one entry a row."""
    if values is not None and len(values) != rows:
        raise InvalidRequestError(
            f"{name}: expected {rows} entries, one an observation, found {len(values)}"
        )


def check_id(value: str | None, name: str) -> None:
    """Raise InvalidRequestError for an id that is empty, too long, or holds a slash."""
    if value is not None and not _is_id(value):
        raise InvalidRequestError(
            f"{name}: expected 1 to {MAX_ID_LENGTH} characters without '/', found {value[:40]!r}"
        )


def check_ids(values: list[str] | None, rows: int, name: str) -> None:
    """Raise InvalidRequestError where a column of ids has not one good id a row."""
    check_column(values, rows, name)
    for row, value in enumerate(values or ()):
        if not _is_id(value):
            check_id(value, f"{name}[{row}]")


def _is_id(value: str) -> bool:
    return 0 < len(value) <= MAX_ID_LENGTH and "/" not in value
