"""Darks, flats and masters: the same as ``ostcal workflow``, with the same options."""

import sys

from ostcal.cli import main

if __name__ == "__main__":
    main(["workflow", *sys.argv[1:]], prog_name="ostcal")
