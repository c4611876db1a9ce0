"""Frames from a camera into series: exposures, flats at the right level, cooling; against the device protocols only."""
