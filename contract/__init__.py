"""What crosses a process boundary. Imports numpy, pydantic, msgspec and zstandard at most.

Neighbouring minor releases read each other, both ways. So what is written by place grows at its end
and by defaults; what is written by name may grow anywhere and is read without what is unknown;
ledger entries grow in their details alone; and what an older reader must not pass over gets a new
format number, which it refuses. `docs/how-to/upgrade.md` has the table.
"""
