"""Numbers and verdicts on arrays and counts: pure functions."""
