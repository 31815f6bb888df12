"""Speech detection, and transcription with Whisper."""
