"""Own pictures: any tree of files, with captions from wherever they are, as a data set folder."""

from workbench.datasets.own.importing import Imported, Skipped, import_folder
from workbench.datasets.own.taking import TakeConfig

__all__ = ["Imported", "Skipped", "TakeConfig", "import_folder"]
