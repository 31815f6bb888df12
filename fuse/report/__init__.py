"""A run as one page to look at: what was found, by which level, and why; without torch."""
