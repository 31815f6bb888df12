"""Seconds and memory of the metrics, beside a straightforward implementation that sorts."""
