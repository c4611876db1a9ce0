"""The report of a run: one HTML page and the same numbers as JSON; it shows what was measured and computes nothing."""
