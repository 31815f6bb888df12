"""Tables of retrieval metrics, and the trace from a number to its inputs; without torch."""
