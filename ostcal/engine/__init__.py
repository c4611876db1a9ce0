"""The combination engine: tiling, kernels, rejection methods, the Dask graph."""
