"""How the tiny CLIP that comes with m2hf was trained, and what it can tell apart."""
