"""A body's numbers to arrays of a policy's shape and dtype."""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from contract.declaration import ObservationSpec
from service.errors import InvalidObservationError


class ObservationDecoder:
    """From a body's numbers to arrays of a policy's shape and dtype."""

    def __init__(self, spec: ObservationSpec) -> None:
        self._spec = spec
        self._dtype = spec.numpy_dtype
        self._is_float = self._dtype.kind == "f"
        one: Any = float if self._is_float else int
        for _ in spec.shape:
            one = list[one]
        self._decoders = {
            (batched, msgpack): (msgspec.msgpack if msgpack else msgspec.json)
            .Decoder(list[one] if batched else one)
            .decode
            for batched in (True, False)
            for msgpack in (True, False)
        }

    def batch(self, raw: msgspec.Raw, *, is_msgpack: bool, name: str) -> npt.NDArray[Any]:
        """Observations [N, *shape].

        Raises:
            InvalidObservationError: They are not numbers of that shape, or not finite.
        """
        return self._decode(raw, True, is_msgpack, name)

    def one(self, raw: msgspec.Raw, *, is_msgpack: bool, name: str) -> npt.NDArray[Any]:
        """One observation [*shape]; errors as `batch`."""
        return self._decode(raw, False, is_msgpack, name)

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

    def _decode(
        self, raw: msgspec.Raw, batched: bool, is_msgpack: bool, name: str
    ) -> npt.NDArray[Any]:
        try:
            nested = self._decoders[batched, is_msgpack](raw)
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


def _shape_of(nested: Any) -> list[int]:
    shape = []
    while isinstance(nested, list):
        shape.append(len(nested))
        # The shortest inner list shows what is ragged.
        nested = min(nested, key=lambda each: len(each) if isinstance(each, list) else 0, default=0)
    return shape
