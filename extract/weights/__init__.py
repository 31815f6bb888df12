"""Where weight files are, where they are published, and how they are downloaded and checked."""
