"""XISF files, the format of PixInsight: their header, their data blocks, and writing them."""
