"""Programs that other libraries run, each in an environment of its own."""
