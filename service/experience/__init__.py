"""The transition log's near end: the local spool, and what ships it."""
