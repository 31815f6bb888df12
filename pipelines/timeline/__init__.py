"""What a store has of one video, as text, JSON and a page."""
