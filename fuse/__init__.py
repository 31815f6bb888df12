"""From shards to a table: feature store, levels, fusion heads, training, metrics."""
