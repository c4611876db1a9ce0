"""Cameras, filter wheels and covers: one protocol each, with Alpaca and ASCOM implementations."""
