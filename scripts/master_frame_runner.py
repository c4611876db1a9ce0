"""Make master frames: the same as ``ostcal masters``, with the same options."""

import sys

from ostcal.cli import main

if __name__ == "__main__":
    main(["masters", *sys.argv[1:]], prog_name="ostcal")
