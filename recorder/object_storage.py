"""File systems by URL: a local folder, or whatever fsspec has a package for (`s3://` has s3fs)."""

from typing import Any

import fsspec


def files_at(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    Raises:
        OSError: Nothing here knows such URLs; the message says what to install.
    """
    try:
        files, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise OSError(f"{url}: {error}") from error
    return files, path
