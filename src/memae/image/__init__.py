"""Images: folders and arrays in, error maps, anomaly maps and scores out."""
