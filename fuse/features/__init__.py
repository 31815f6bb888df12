"""Cached features by id, the splits of a data set, and the gallery of a split; no torch."""
