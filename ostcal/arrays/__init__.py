"""Frames in memory, combined: arrays, `CCDData`, HDUs, Dask and zarr arrays, beside files and series."""
