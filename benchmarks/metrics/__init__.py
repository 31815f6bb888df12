"""Seconds and memory of the metrics, against a straightforward implementation that sorts."""
