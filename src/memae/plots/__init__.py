"""Pictures that explain: anomaly maps over images and frames, reconstructions, items, rows."""
