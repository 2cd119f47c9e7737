"""Simulated rollouts: how often the judge errs, how soon it acts, beside others' rules."""
