"""Better policies from what is served: learned offline, judged offline, tried by canary."""
