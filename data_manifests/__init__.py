"""Dataset cards, and the code that builds manifests."""
