"""Extraction by Dask; the only place that imports it."""
