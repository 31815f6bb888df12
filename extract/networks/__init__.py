"""The networks that extractors run, and what each expects of its input."""
