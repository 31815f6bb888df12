"""Tables of score matrices that other tools have computed."""
