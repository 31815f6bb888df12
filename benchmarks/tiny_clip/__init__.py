"""Training of the tiny CLIP that ships with m2hf, and its evaluation."""
