"""`python -m jobs.plan RECIPE` is `spp plan RECIPE`."""

from jobs.cli import main

if __name__ == "__main__":
    main("plan")
