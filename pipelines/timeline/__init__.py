"""The stored features of one video on a time axis, as text, JSON and HTML."""
