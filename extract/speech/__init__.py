"""Where speech is, and what Whisper hears of it."""
