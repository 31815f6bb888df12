"""The fusion against simpler models, on a folder of real features.

.venv/bin/python -m benchmarks.real --data FOLDER --seeds 3 --json out.json
"""
