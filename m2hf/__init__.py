"""Text-video retrieval by multi-level multi-modal hybrid fusion (M2HF, arXiv 2208.07664).

This package is the contract that the other folders share: manifests, features, shards, keys,
ledger, config and errors. It needs numpy, h5py and pydantic; never torch, never dask.
"""

__version__ = "0.1.0"
