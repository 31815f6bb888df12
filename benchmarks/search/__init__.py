"""Latency of a query of `m2hf search` and `m2hf app`."""
