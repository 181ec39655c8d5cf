"""``python -m nmfuse.cli`` is ``nmfuse``."""

from nmfuse.cli.app import main

main()
