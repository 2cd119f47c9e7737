"""What crosses a process boundary. Imports numpy, pydantic, msgspec and zstandard at most."""
