"""Toybox: a world of short clips that this project generates, offline and from a seed."""
