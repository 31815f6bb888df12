"""Running networks: windows over a clip, batches across clips, and the time models take."""
