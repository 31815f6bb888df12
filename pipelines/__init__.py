"""Plans, runs and accounts for extraction; within it only `cluster` imports dask."""
