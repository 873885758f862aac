"""`python -m trailhawk` is `trailhawk`."""

from trailhawk.cli import main

main()
