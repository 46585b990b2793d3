"""Train a new style: the same as `faststyle train`."""

import sys

from faststyle.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
