"""A table with all that its numbers were made from, in one file, and the numbers computed again."""
