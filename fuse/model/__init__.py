"""The trained model: tokens, adapters, early fusion, levels, scorers, calibration, checkpoint."""
