"""Tables of score matrices that others have computed."""
