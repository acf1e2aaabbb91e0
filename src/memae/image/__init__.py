"""Images: folders and arrays in, error maps and scores out."""
