"""What each level is worth on the toybox, by what a caption asks for."""
