"""`python -m exporter`: the same as `dqn export`."""

import sys

from exporter.export import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
