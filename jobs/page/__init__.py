"""The page about a run, or several beside each other."""

from jobs.page.figures import speed
from jobs.page.learning import learning
from jobs.page.times import times
from jobs.page.writing import page_file, write_page

__all__ = ["learning", "page_file", "speed", "times", "write_page"]
