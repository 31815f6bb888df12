"""Retrieval by level on the toybox, split by kind of caption."""
