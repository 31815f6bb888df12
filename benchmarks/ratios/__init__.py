"""The fusion half beside the plainest code that does the same, in one process."""
