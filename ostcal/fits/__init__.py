"""FITS files: cards, headers, layout, reading, writing, compressed tiles."""
