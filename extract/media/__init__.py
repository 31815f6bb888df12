"""Decodes a file to frames and samples with one ffmpeg process per clip."""
