"""Dataset cards, and the code that builds a manifest."""
