"""A package as another's installation leaves it: modules, and the record of their entry points."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from pipeline.networks import installed


class Package:
    """One module that brings networks. It is there from `install` on, here and in new processes."""

    def __init__(self, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.name, self._monkeypatch = folder, name, monkeypatch
        folder.mkdir()
        self._monkeypatch.syspath_prepend(str(folder))
        path = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))

    def install(self, code: str, version: str = "1", **points: str) -> None:
        """Put the code into the module, and have it bring what `points` name."""
        for old in self.folder.glob("*.dist-info"):
            shutil.rmtree(old)
        (self.folder / f"{self.name}.py").write_text(code)
        record = self.folder / f"{self.name}-{version}.dist-info"
        record.mkdir()
        (record / "METADATA").write_text(f"Name: {self.name}\nVersion: {version}\n")
        lines = [f"[{installed.GROUP}]", *(f"{name} = {value}" for name, value in points.items())]
        (record / "entry_points.txt").write_text("\n".join(lines))
        self.forget()

    def forget(self) -> None:
        """Look at the disk again, as a new process would."""
        installed.names.cache_clear()
        installed.installed.cache_clear()
        sys.modules.pop(self.name, None)
