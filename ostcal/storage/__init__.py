"""Frames and masters on disk: FITS files and zarr stores; the only room that knows astropy and zarr."""
