"""Plan, run and account for extraction; the only folder that imports dask."""
