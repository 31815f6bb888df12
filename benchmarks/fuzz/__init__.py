"""Mutated files of every format that m2hf reads: each ends in one line, or is accepted."""
