"""Work on a Dask cluster: ways to one, its workers checked before work, the cluster as an executor."""

from ostcal.extras import needed_for

with needed_for("compute.scheduler distributed", package="distributed", extra="cluster"):
    import distributed  # noqa: F401 -- an extra, which all modules of this room import
