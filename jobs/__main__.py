"""`spp`, and `python -m jobs`, which is the same."""

import gc

# What imports make is needed to the end. Looking through it for garbage, again and again while it
# grows and once more when the interpreter leaves, is two of the five seconds that a command takes.
gc.disable()
from jobs.cli import main  # noqa: E402

gc.freeze()
gc.enable()

if __name__ == "__main__":
    main()
