"""`python -m opentracy`: the command line."""

from opentracy.cli import main

if __name__ == "__main__":
    main()
