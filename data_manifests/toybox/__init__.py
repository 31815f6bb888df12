"""Toybox: a benchmark of short synthetic clips, generated offline from a seed."""
