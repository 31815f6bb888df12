"""Measurements, each repeated by one command from the checkout; not part of the wheel."""
