"""What a person looks at: pictures of reconstructions, error maps and items."""
