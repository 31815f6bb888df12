"""`python -m m2hf`: the same as the `m2hf` command."""

from m2hf.cli.app import main

if __name__ == "__main__":
    main()
