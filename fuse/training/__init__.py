"""Training: batches, losses that balance, the optimiser, epochs and resuming."""
