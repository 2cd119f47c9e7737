"""Reward hacks in the lunar lander: which are caught, and which honest episodes are accused."""
