"""Files: written whole or not at all, and images read safely."""
