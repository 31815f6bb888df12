"""Import and export of features: arrays, caption arrays, npz, WebDataset, Arrow."""
