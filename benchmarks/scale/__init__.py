"""How time and memory of each command grow with the number of clips."""
