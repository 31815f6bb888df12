"""From a file to frames and samples: one ffmpeg process a clip."""
