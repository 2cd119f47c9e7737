"""From raw records to shards, reward metrics and datasets: a process beside the service."""
