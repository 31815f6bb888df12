"""Extraction on Dask workers; the only package that imports dask."""
