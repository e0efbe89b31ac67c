"""`spp`, and `python -m jobs`, which is the same."""

from jobs.cli import main

if __name__ == "__main__":
    main()
