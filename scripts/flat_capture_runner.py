"""Take flats: the same as ``ostcal flats``, with the same options."""

import sys

from ostcal.cli import main

if __name__ == "__main__":
    main(["flats", *sys.argv[1:]], prog_name="ostcal")
