"""`python -m jobs` is `spp`."""

from jobs.cli import main

if __name__ == "__main__":
    main()
