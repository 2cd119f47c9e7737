"""A body's numbers to arrays of a policy's shape and dtype."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from contract.declaration import ObservationSpec
from service.errors import InvalidObservationError

Rows = list[Any] | npt.NDArray[Any]
"""N observations of the right shape and range: [N, *shape], or nested lists of it, of which one
array is made for a whole batch at less than what one for each request would cost."""


class ObservationDecoder:
    """From a body's numbers to observations of a policy's shape and dtype."""

    def __init__(self, spec: ObservationSpec) -> None:
        self._spec = spec
        self._dtype = spec.numpy_dtype
        self._is_float = self._dtype.kind == "f"
        self._fitting = {
            (batched, msgpack): _decoder(_fitting(spec, batched=batched), msgpack)
            for batched in (True, False)
            for msgpack in (True, False)
        }
        self._any = {
            (batched, msgpack): _decoder(_nested(spec, batched=batched), msgpack)
            for batched in (True, False)
            for msgpack in (True, False)
        }

    def batch(self, raw: msgspec.Raw, *, is_msgpack: bool, name: str) -> Rows:
        """Observations [N, *shape].

        Raises:
            InvalidObservationError: They are not numbers of that shape, or not finite.
        """
        try:
            rows: list[Any] = self._fitting[True, is_msgpack](raw)
            return rows
        except (msgspec.DecodeError, RecursionError):
            return self._explain(raw, True, is_msgpack, name)

    def one(self, raw: msgspec.Raw, *, is_msgpack: bool, name: str) -> npt.NDArray[Any]:
        """One observation [*shape]; errors as `batch`."""
        try:
            return np.array(self._fitting[False, is_msgpack](raw), dtype=self._dtype)
        except (msgspec.DecodeError, RecursionError):
            return self._explain(raw, False, is_msgpack, name)

    def raw_batch(self, body: bytes, *, name: str) -> npt.NDArray[Any]:
        """Observations [N, *shape] from their bytes: C order, little-endian, nothing around them.

        Raises:
            InvalidObservationError: They are not whole observations, or not finite.
        """
        size = self._spec.size * self._dtype.itemsize
        if not body or len(body) % size:
            raise InvalidObservationError(
                f"{name}: expected a multiple of {size} bytes, found {len(body)}"
            )
        array = np.frombuffer(body, self._dtype.newbyteorder("<"))
        return self._finite(array.reshape(-1, *self._spec.shape), name)

    def _explain(
        self, raw: msgspec.Raw, batched: bool, is_msgpack: bool, name: str
    ) -> npt.NDArray[Any]:
        """Say what does not fit; take what does, as a number that rounds to the largest float."""
        try:
            nested = self._any[batched, is_msgpack](raw)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidObservationError(f"{name}: {error}") from error
        try:
            # A number beyond float32 becomes an infinity here, and is refused below.
            with np.errstate(over="ignore"):
                array = np.array(nested, dtype=self._dtype)
        except OverflowError:
            limits = np.iinfo(self._spec.dtype)
            raise InvalidObservationError(
                f"{name}: a number is outside {self._spec.dtype}, {limits.min} to {limits.max}"
            ) from None
        except ValueError:
            raise self._misfit(nested, batched, name) from None
        if array.shape[batched:] != self._spec.shape:
            raise self._misfit(nested, batched, name)
        return self._finite(array, name)

    def _finite(self, array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
        if self._is_float and not np.isfinite(array).all():
            where = np.argwhere(~np.isfinite(array))[0].tolist()
            raise InvalidObservationError(
                f"{name}{where}: expected a finite {self._spec.dtype}, found {array[*where]}"
            )
        return array

    def _misfit(self, nested: Any, batched: bool, name: str) -> InvalidObservationError:
        expected = list(self._spec.shape)
        for row, observation in enumerate(nested if batched else [nested]):
            found = _shape_of(observation)
            if found != expected:
                where = f"{name}[{row}]" if batched else name
                return InvalidObservationError(f"{where}: expected shape {expected}, found {found}")
        return InvalidObservationError(f"{name}: expected at least one observation, found none")


def stack_rows(parts: Sequence[Rows], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The observations of several requests as one array [N, *shape]."""
    if len(parts) == 1:
        return np.asarray(parts[0], dtype)
    if all(type(part) is list for part in parts):
        return np.array(list(chain.from_iterable(parts)), dtype)
    return np.concatenate([np.asarray(part, dtype) for part in parts])


def _decoder(kind: Any, is_msgpack: bool) -> Callable[[Any], Any]:
    if is_msgpack:
        return msgspec.msgpack.Decoder(kind).decode
    return msgspec.json.Decoder(kind).decode


def _nested(spec: ObservationSpec, *, batched: bool) -> Any:
    """Lists of numbers, as deep as the shape."""
    kind: Any = float if spec.numpy_dtype.kind == "f" else int
    for _ in range(len(spec.shape) + batched):
        kind = list[kind]
    return kind


def _fitting(spec: ObservationSpec, *, batched: bool) -> Any:
    """Lists with the lengths of the shape, of numbers that the dtype holds; NaN is none."""
    dtype: Any = spec.numpy_dtype
    kind: Any
    if dtype.kind == "f":
        largest = float(np.finfo(dtype).max)
        kind = Annotated[float, msgspec.Meta(ge=-largest, le=largest)]
    else:
        limits = np.iinfo(dtype)
        kind = Annotated[int, msgspec.Meta(ge=int(limits.min), le=int(limits.max))]
    for length in reversed(spec.shape):
        kind = Annotated[list[kind], msgspec.Meta(min_length=length, max_length=length)]
    return Annotated[list[kind], msgspec.Meta(min_length=1)] if batched else kind


def _shape_of(nested: Any) -> list[int]:
    shape = []
    while isinstance(nested, list):
        shape.append(len(nested))
        # The shortest inner list shows what is ragged.
        nested = min(nested, key=lambda each: len(each) if isinstance(each, list) else 0, default=0)
    return shape
