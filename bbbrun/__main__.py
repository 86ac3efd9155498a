"""`python -m bbbrun`: the same as the console script."""

from bbbrun.cli import main

if __name__ == "__main__":
    main()
