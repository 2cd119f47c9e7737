"""How fast records get from the spool through Redis to the shards."""
