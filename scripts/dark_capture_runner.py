"""Take darks: the same as ``ostcal darks``, with the same options."""

import sys

from ostcal.cli import main

if __name__ == "__main__":
    main(["darks", *sys.argv[1:]], prog_name="ostcal")
