"""Ablations of the fusion, on synthetic data whose latent factors are known.

.venv/bin/python -m benchmarks.levels --seeds 5 --json out.json
"""
