"""Cost of `m2hf eval` at the size of a benchmark: seconds, and memory against its limit."""
