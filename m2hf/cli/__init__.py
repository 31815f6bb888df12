"""The `m2hf` command: one verb a step, each importing only what it uses."""
