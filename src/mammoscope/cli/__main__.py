"""``python -m mammoscope.cli``."""

from mammoscope.cli.app import main

main()
