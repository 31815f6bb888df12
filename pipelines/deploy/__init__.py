"""Recipes for clusters: copy one, and fill in what is of your place (docs/cluster.md)."""
