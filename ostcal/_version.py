"""The version of the program, written here once; the package metadata read it from this file."""

__version__ = "0.1.0"
