"""Deep Q-learning: from an environment to a checkpoint."""
