"""The `dqn` command. Thin: a process's package is imported only when its verb is called."""
