"""How long a query of `m2hf search` and `m2hf app` takes."""
