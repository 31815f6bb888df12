"""The HTML report of a run: metrics, training curves, levels, and ranked videos; without torch."""
