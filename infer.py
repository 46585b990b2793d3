"""Repaint photos: the same as `faststyle stylize`."""

import sys

from faststyle.cli import main

if __name__ == "__main__":
    sys.exit(main(["stylize", *sys.argv[1:]]))
