"""Scoring a split with a trained model, block by block, into the similarity file."""
