"""The evidence: protocols, methods, a runner that fills missing cells, and committed results. Not in the wheel."""
