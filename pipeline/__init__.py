"""The library: arrays, files, networks, learning. No Ray anywhere."""
