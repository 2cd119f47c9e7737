"""A newcomer's three ways in, timed as typed."""
