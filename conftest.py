"""What cannot be imported everywhere, and is then no place to look for examples."""

from importlib.util import find_spec

# Not by pytest's own option for modules that do not import: it skips broken tests, too.
collect_ignore = [] if find_spec("triton") else ["pipeline/spp/cuda.py"]
