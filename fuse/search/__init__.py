"""Search: ranked videos for a sentence, with the evidence in each of them."""
