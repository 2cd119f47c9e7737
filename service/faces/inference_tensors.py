"""Tensors of the Open Inference Protocol: JSON numbers or bytes behind the JSON, in and out.

Wire format: the protocol's text and its binary tensor extension. Bytes are little-endian, in C
order, without padding; a BOOL is a byte of 0 or 1.
"""

import re
from collections.abc import Callable
from functools import cache
from math import prod
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from service.errors import InvalidObservationError, InvalidRequestError, MalformedBodyError

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_DATATYPES: Final = {dtype: datatype for datatype, dtype in _DTYPES.items()}
_KINDS: Final[dict[str, str]] = {"b": "b", "u": "i", "i": "i", "f": "f"}
"""Datatypes of one kind are converted into each other where every value fits."""
_NESTED: Final = re.compile(rb"\s*\[\s*\[")
_JSON_TYPES: Final[dict[str, type]] = {"b": bool, "u": int, "i": int, "f": float}


class InputParameters(msgspec.Struct):
    """Where an input's data is, if not beside its name."""

    binary_data_size: Count | None = None
    shared_memory_region: str | None = None


class InputTensor(msgspec.Struct):
    """One input as a request describes it."""

    name: str
    shape: list[Count]
    datatype: str
    parameters: InputParameters | None = None
    data: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    """Numbers in C order, flat or nested."""

    @property
    def binary_size(self) -> int | None:
        """Bytes of it behind the JSON; None where its data is in the JSON."""
        return None if self.parameters is None else self.parameters.binary_data_size


class OutputParameters(msgspec.Struct):
    """Where an output's data is."""

    binary_data_size: int


class OutputTensor(msgspec.Struct, omit_defaults=True):
    """One output as a response describes it."""

    name: str
    datatype: str
    shape: list[int]
    parameters: OutputParameters | None = None
    data: list[Any] | None = None
    """Flat, in C order; left out where the bytes follow the JSON."""


class SplitBody(NamedTuple):
    """A body's JSON, and the bytes behind it."""

    document: memoryview
    rest: memoryview


def datatype_of(dtype: npt.DTypeLike) -> str:
    """The protocol's name of a dtype."""
    return _DATATYPES[np.dtype(dtype)]


def split_body(body: bytes, header_length: bytes | None) -> SplitBody:
    """Cut a body after the JSON; without a length, all of it is JSON.

    Raises:
        MalformedBodyError: The length is not one of this body.
    """
    whole = memoryview(body)
    if header_length is None:
        return SplitBody(whole, whole[len(body) :])
    # isdigit first: int() would take signs, blanks and underscores, and digits without end.
    is_number = header_length.isdigit() and len(header_length) < 20
    if not is_number or int(header_length) > len(body):
        raise MalformedBodyError(
            f"Inference-Header-Content-Length: expected 0 to {len(body)}, the bytes of the body, "
            f"found {header_length[:20].decode('latin-1')!r}"
        )
    length = int(header_length)
    return SplitBody(whole[:length], whole[length:])


def take_blobs(tensors: list[InputTensor], rest: memoryview) -> list[memoryview | None]:
    """The bytes of each input in order; None for those whose data is in the JSON.

    Raises:
        InvalidRequestError: Bytes are missing, or left over.
    """
    blobs: list[memoryview | None] = []
    start = 0
    for tensor in tensors:
        size = tensor.binary_size
        if size is None:
            blobs.append(None)
            continue
        if start + size > len(rest):
            raise InvalidRequestError(
                f"inputs.{tensor.name[:64]}: expected {size} bytes behind the JSON, "
                f"found {len(rest) - start}"
            )
        blobs.append(rest[start : start + size])
        start += size
    if start < len(rest):
        raise InvalidRequestError(
            f"inputs: {len(rest) - start} bytes are left over behind those of all inputs"
        )
    return blobs


def read_tensor(
    tensor: InputTensor, blob: memoryview | None, row_shape: tuple[int, ...], dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    """An input as an array [N, *row_shape] of our dtype, N at least 1.

    Raises:
        InvalidObservationError: It is not such a tensor, or not finite.
    """
    where = f"inputs.{tensor.name}"
    # Before any product is taken of it: a long shape of large sizes would take for ever.
    if tensor.shape[1:] != list(row_shape) or not tensor.shape[0]:
        raise InvalidObservationError(
            f"{where}: expected shape {[-1, *row_shape]} with at least one row, "
            f"found {tensor.shape[:8]}"
        )
    source = _source_dtype(tensor, dtype, where)
    if tensor.parameters is not None and tensor.parameters.shared_memory_region is not None:
        raise InvalidRequestError(f"{where}: shared memory is not served; send the data")
    # bytes() of the first few: of all of it would copy a frame.
    has_json = bytes(memoryview(tensor.data)[:5]) not in (b"", b"null")
    if has_json == (blob is not None):
        raise InvalidRequestError(
            f"{where}: expected its data once, as `data` or by `binary_data_size`, "
            f"found {'both' if has_json else 'neither'}"
        )
    array = _from_json(tensor, dtype, where) if blob is None else _from_bytes(tensor, blob, source)
    return _converted(array, dtype, where)


def encode_outputs(
    arrays: dict[str, npt.NDArray[Any]], is_binary: Callable[[str], bool]
) -> tuple[list[OutputTensor], bytes]:
    """Describe outputs in order, and the bytes of the binary ones behind each other."""
    tensors, blobs = [], []
    for name, array in arrays.items():
        tensor = OutputTensor(name, datatype_of(array.dtype), list(array.shape))
        if is_binary(name):
            blob = array.astype(_DTYPES[tensor.datatype], copy=False).tobytes()
            tensor.parameters = OutputParameters(len(blob))
            blobs.append(blob)
        else:
            tensor.data = array.ravel().tolist()
        tensors.append(tensor)
    return tensors, b"".join(blobs)


def _source_dtype(tensor: InputTensor, dtype: np.dtype[Any], where: str) -> np.dtype[Any]:
    source = _DTYPES.get(tensor.datatype)
    if source is None or _KINDS[source.kind] != _KINDS[dtype.kind]:
        raise InvalidObservationError(
            f"{where}: expected datatype {datatype_of(dtype)}, found {tensor.datatype[:16]!r}"
        )
    if tensor.datatype == "FP16" and tensor.binary_size is None:
        raise InvalidObservationError(f"{where}: FP16 has no JSON form; send FP32, or its bytes")
    return source


def _from_bytes(tensor: InputTensor, blob: memoryview, source: np.dtype[Any]) -> npt.NDArray[Any]:
    expected = prod(tensor.shape) * source.itemsize
    if len(blob) != expected:
        raise InvalidObservationError(
            f"inputs.{tensor.name}: {tensor.datatype} of shape {tensor.shape} has {expected} "
            f"bytes, found {len(blob)}"
        )
    if source.kind == "b":
        flags = np.frombuffer(blob, np.uint8)
        if flags.max() > 1:
            raise InvalidObservationError(
                f"inputs.{tensor.name}: expected bytes of 0 and 1, found {flags.max()}"
            )
    # Copied: behind JSON of any length the bytes lie unaligned.
    return np.frombuffer(blob, source).reshape(tensor.shape).copy()


def _from_json(tensor: InputTensor, dtype: np.dtype[Any], where: str) -> npt.NDArray[Any]:
    is_nested = _NESTED.match(memoryview(tensor.data)) is not None
    decode = _decoder(_JSON_TYPES[dtype.kind], len(tensor.shape) if is_nested else 1)
    try:
        values = decode(tensor.data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidObservationError(f"{where}: {error}") from error
    try:
        # A number beyond float32 becomes an infinity here, and is refused later.
        with np.errstate(over="ignore"):
            array = np.array(values, dtype=dtype)
    except OverflowError:
        raise _out_of_range(dtype, where) from None
    except ValueError:
        raise InvalidObservationError(f"{where}: its rows are of different lengths") from None
    if array.size != prod(tensor.shape) or (array.ndim > 1 and list(array.shape) != tensor.shape):
        raise InvalidObservationError(
            f"{where}: expected {prod(tensor.shape)} numbers, flat or of shape {tensor.shape}, "
            f"found {list(array.shape)}"
        )
    return array.reshape(tensor.shape)


@cache
def _decoder(one: Any, depth: int) -> Callable[[msgspec.Raw], Any]:
    """A decoder of lists in lists; kept for each depth that a policy has."""
    for _ in range(depth):
        one = list[one]
    return msgspec.json.Decoder(one).decode


def _converted(array: npt.NDArray[Any], dtype: np.dtype[Any], where: str) -> npt.NDArray[Any]:
    converted = array
    if array.dtype != dtype:
        with np.errstate(over="ignore"):
            converted = array.astype(dtype)
    if dtype.kind == "f" and not np.isfinite(converted).all():
        index = np.argwhere(~np.isfinite(converted))[0].tolist()
        raise InvalidObservationError(
            f"{where}{index}: expected a finite {datatype_of(dtype)}, found {converted[*index]}"
        )
    if dtype.kind in "iu" and not np.array_equal(converted, array):
        raise _out_of_range(dtype, where)
    return converted


def _out_of_range(dtype: np.dtype[Any], where: str) -> InvalidObservationError:
    limits = np.iinfo(dtype)
    return InvalidObservationError(
        f"{where}: a number is outside {datatype_of(dtype)}, {limits.min} to {limits.max}"
    )
