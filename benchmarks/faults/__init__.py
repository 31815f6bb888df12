"""Faults put into files on purpose, and what readers make of them."""
