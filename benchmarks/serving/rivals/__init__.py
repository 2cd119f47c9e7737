"""Other servers, each with the same ONNX file behind its own documented interface.

`table` says how each is installed, started and asked; every other module but `wire` is one of them
and runs in an environment of its own, so it imports nothing of this project but `decider`.
"""
