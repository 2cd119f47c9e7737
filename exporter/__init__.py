"""From a checkpoint to a bundle that may serve: export it, measure it, prove it."""
