"""From similarity files, or matrices of others, to tables that trace back; without torch."""
