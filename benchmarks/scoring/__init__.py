"""What `m2hf eval` takes at the size of a benchmark: seconds, and memory beside its bound."""
