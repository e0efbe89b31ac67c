"""A decoder of images: `python -m pipeline.apart.image MAX_PIXELS`, with the file's bytes as input.

It answers nothing: who asks wants to know whether it comes to an end.
"""

import contextlib
import sys

from pipeline import images


def main() -> None:
    """Decode what comes in."""
    with contextlib.suppress(images.UndecodableImage):  # who asked will see for itself
        images.decode(sys.stdin.buffer.read(), max_pixels=int(sys.argv[1]))


if __name__ == "__main__":
    main()
