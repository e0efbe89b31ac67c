"""The page about recipes that are being run."""

from collections.abc import Sequence
from pathlib import Path

from actors.progress import Progress
from jobs.page.writing import Run, write_page
from pipeline.errors import SppError


class AwaitedPage:
    """Written once, as soon as all that it is about is whole.

    Attributes:
        file: of the page; None while there is none.
        fault: why it could not be written; "" where nothing went wrong.
    """

    def __init__(
        self, runs: Sequence[Run], file: Path, beside: Sequence[Run] = (), quiet: bool = False
    ) -> None:
        """Await some runs.

        Args:
            runs: that are being run; where there are none, there is no page.
            file: where it goes.
            beside: whole runs that come first on it.
            quiet: whether nothing is shown on the way.
        """
        self.file: Path | None = None
        self.fault = ""
        self._runs, self._beside = list(runs), list(beside)
        self._goes_to, self._quiet = file, quiet

    def write(self) -> bool:
        """Write it if it is time to; return whether that was now."""
        is_whole = self._runs and all(each.planned["report"].record for each in self._runs)
        if self.file or self.fault or not is_whole:
            return False
        try:
            write_page(self._goes_to, [*self._beside, *self._runs], Progress(quiet=self._quiet))
        except (OSError, SppError) as error:
            self.fault = str(error)
            return False
        self.file = self._goes_to
        return True
