"""From a video to features: media decoding, weights, and one file per modality."""
