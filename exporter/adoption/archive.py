"""Zip files that nobody vouches for."""

import io
import zipfile
from typing import Any, Final

from exporter.adoption.source import AdoptionError

_MAX_UNPACKED_BYTES: Final = 1024**3


def member_names(content: bytes) -> list[str]:
    """The names of an archive's members.

    Raises:
        AdoptionError: It is damaged.
    """
    with _open(content) as archive:
        return archive.namelist()


def read_member(content: bytes, name: str) -> bytes:
    """One member, unpacked.

    Raises:
        AdoptionError: It is not there, is damaged or unpacks to more than a policy could be.
    """
    with _open(content) as archive:
        try:
            info = archive.getinfo(name)
        except KeyError:
            raise AdoptionError(f"the archive has no {name}") from None
        if info.file_size > _MAX_UNPACKED_BYTES:
            raise AdoptionError(f"{name} unpacks to {info.file_size} bytes")
        try:
            return archive.read(info)
        # A forged archive fails in a dozen ways, zlib's among them.
        except Exception as error:
            raise AdoptionError(f"{name} is damaged: {error}") from error


def read_tensors(content: bytes) -> dict[str, Any]:
    """What `torch.save` wrote, where it is tensors and plain values and nothing else.

    Raises:
        AdoptionError: It holds anything that would have to be run to be read.
    """
    import torch

    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    # PyTorch's restricted reader raises many types, and on forged input more.
    except Exception as error:
        reason = str(error).strip().splitlines()[-1]
        raise AdoptionError(
            "the weights are not plain tensors, and nothing else is read from a pickle, because it "
            f"could run any code: {reason}"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise AdoptionError(f"expected a state_dict of names and tensors, found {type(found)}")
    return found


def _open(content: bytes) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, ValueError) as error:
        raise AdoptionError(f"not a zip archive: {error}") from error
