"""Cost of extraction with less model work, and agreement with the unoptimised baseline."""
