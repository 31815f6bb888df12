"""How networks are run: windows in, rows in batches, time measured."""
