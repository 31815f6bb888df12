"""Recipes that ship with m2hf, as TOML."""
