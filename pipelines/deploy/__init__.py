"""Templates for clusters: copy one and fill in your site's settings (docs/cluster.md)."""
