"""Running a policy: the model, the proof that it may serve, batching, the fallback."""
