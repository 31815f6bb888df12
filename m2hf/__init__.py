"""Text-video retrieval by multi-level multi-modal hybrid fusion (M2HF, arXiv 2208.07664).

The modules of this folder are the contract that the other packages share: manifests, features,
shards, keys, stream names, ledger, config and errors. They need numpy, h5py and pydantic; never
torch, never dask.
"""

__version__ = "0.1.0"
