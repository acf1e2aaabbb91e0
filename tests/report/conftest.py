from tests.cli.conftest import folder, memae

__all__ = ["folder", "memae"]
