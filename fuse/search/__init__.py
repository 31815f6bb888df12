"""Search: a sentence in, ranked videos out, with what in each of them matched."""
