"""Work on a Dask cluster: ways to one, its workers checked before work, the cluster as an executor."""
