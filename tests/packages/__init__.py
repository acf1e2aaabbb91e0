"""The wheel and the sdist as users install them: `make packages`."""
