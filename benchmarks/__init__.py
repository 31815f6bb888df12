"""Measurements that a person repeats with one command, from the checkout; not part of the wheel."""
