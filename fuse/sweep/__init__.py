"""Many runs over one store: a grid of settings and seeds, and the table that compares them."""
