"""The page about a run, or several beside each other."""

from jobs.page.awaited import AwaitedPage
from jobs.page.figures import speed
from jobs.page.learning import learning
from jobs.page.times import times
from jobs.page.writing import Run, page_file, write_page

__all__ = ["AwaitedPage", "Run", "learning", "page_file", "speed", "times", "write_page"]
