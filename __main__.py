"""``python -m deepclust`` is the command ``deepclust``."""

from .cli import main

main(prog_name="deepclust")
