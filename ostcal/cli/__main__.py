"""`python -m ostcal.cli` is the command `ostcal`."""

from ostcal.cli import main

if __name__ == "__main__":
    main()
