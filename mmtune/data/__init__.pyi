from .building.arrays import from_arrays
from .bundled.sample import sample
from .dataset import Bank, Dataset, Partition
from .storage.store import load, save

__all__ = ["Bank", "Dataset", "Partition", "from_arrays", "load", "sample", "save"]
