"""The training loop, what it minimises, and the state it can be resumed from."""
