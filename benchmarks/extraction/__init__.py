"""Less model work for the same features: seconds, and agreement with the plain way."""
