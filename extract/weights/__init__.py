"""Where weight files are, where they are published, and how they get here."""
