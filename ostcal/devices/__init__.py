"""Cameras, filter wheels and covers: one protocol for each, whatever drives it."""
