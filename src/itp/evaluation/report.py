"""The report of an evaluation: results that can be read, drawn, written and read back."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from itp._util.extras import extra
from itp._util.files import write_text
from itp.evaluation import serialization
from itp.evaluation.markdown import markdown
from itp.evaluation.results import Results

__all__ = ["Report", "check_charts"]


class Report(Results):
    """What `compare` returns: figures, their analysis, and the forms in which they are read."""

    def to_markdown(self, path: str | os.PathLike[str] | None = None) -> str:
        """Tables and a summary in sentences; also written to a file, if one is named."""
        text = markdown(self)
        if path is not None:
            write_text(path, text)
        return text

    def plot(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write every chart as an SVG file of its own into a folder, which is made if it does not exist.

        Raises
        ------
        MissingExtraError
            matplotlib is not installed.
        """
        with _charts():
            from itp.evaluation.charts import charts, svg
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, figure in charts(self):
            paths.append(target / f"{name}.svg")
            write_text(paths[-1], svg(figure))
        return paths

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write one page that needs no other file: a summary, tables and charts.

        Raises
        ------
        MissingExtraError
            matplotlib is not installed.
        """
        with _charts():
            from itp.evaluation.html import page
        write_text(path, page(self))
        return Path(path)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Everything that `from_json` reads, and the comparisons; also written to a file, if one is named."""
        text = serialization.to_json(self)
        if path is not None:
            write_text(path, text)
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> Report:
        """Read what `to_json` returned or wrote.

        Parameters
        ----------
        source : str or path
            JSON text, or a file with it.

        Raises
        ------
        ReportError
            It is no such text; the message says what is wrong.
        """
        return cls(**serialization.from_json(source))


def check_charts() -> None:
    """Raise MissingExtraError now if charts cannot be drawn later."""
    with _charts():
        import matplotlib  # noqa: F401


def _charts() -> AbstractContextManager[None]:
    return extra("charts need", "report")
