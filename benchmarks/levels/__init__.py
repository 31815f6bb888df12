"""What each part of the fusion is worth, on data whose truth is known.

.venv/bin/python -m benchmarks.levels --seeds 5 --json out.json
"""
