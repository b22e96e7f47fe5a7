from .arrays import from_arrays
from .bundled import sample
from .dataset import Bank, Dataset, Partition
from .store import load, save

__all__ = ["Bank", "Dataset", "Partition", "from_arrays", "load", "sample", "save"]
