"""Whether files lie in the dataset's folder, wherever symbolic links lead.

A folder that others have made may hold a link to anything that its reader may read: a key, another
project's images. Such a file would be read, stored and shown. So links that lead out are refused,
unless the recipe says `dataset.follow_links = true`: one's own folders may well lie on other disks.
"""

import os
from pathlib import Path

from pipeline.errors import InputError


class Inside:
    """Lets paths of a dataset's folder pass; refuses those that lead out of it."""

    def __init__(self, root: Path, follow_links: bool = False) -> None:
        """Stand before a folder, which may itself be reached by a link: a person has named it.

        Args:
            root: the folder.
            follow_links: let everything pass.
        """
        self._root, self._follow_links = root, follow_links
        self._real = os.path.realpath(root)
        self._known: set[str] = set()
        """Folders that are inside: each has many files."""

    def __call__(self, path: Path) -> Path:
        """Return the path, whether there is such a file or not.

        Raises:
            InputError: it leads out of the folder.
        """
        if self._follow_links:
            return path
        folder = os.path.dirname(path)
        if folder not in self._known:
            self._require(folder, path)
            self._known.add(folder)
        if os.path.islink(path):
            self._require(str(path), path)
        return path

    def _require(self, link: str, path: Path) -> None:
        real = os.path.realpath(link)
        if os.path.commonpath([real, self._real]) != self._real:
            raise InputError(
                f"{path} leads out of the dataset's folder {self._root}, to {real}: put the file "
                "there, or, if the folder is your own, set dataset.follow_links = true "
                "(--follow-links)"
            )
