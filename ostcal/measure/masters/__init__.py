"""Masters: the scan of every pixel, defects, and checks against limits and against the previous master."""
