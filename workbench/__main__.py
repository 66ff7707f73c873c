"""`python -m workbench`: the command line."""

from workbench.cli.app import main

main()
