"""``python -m sightline``: the same as the ``sightline`` command."""

from sightline.cli.main import main

main()
