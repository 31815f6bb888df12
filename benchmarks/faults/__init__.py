"""What is lost or missed when processes die, files are damaged and resources run out."""
