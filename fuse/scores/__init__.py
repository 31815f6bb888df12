"""Scores and what is computed from them: metrics, late-fusion rules, baselines; no torch."""
