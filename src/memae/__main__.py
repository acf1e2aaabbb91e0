"""python -m memae: the command line."""

from memae.cli import main

main()
