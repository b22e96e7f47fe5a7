"""A bank that is larger than the memory that a process may have is mapped, and trained on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

ROWS, SHAPE = 200_000, (3, 64, 64)
CHILD = """
import resource, sys
from pathlib import Path
import numpy as np, torch
from mmtune.data.protocols import Split
from mmtune.data.storage.store import load
from mmtune.networks.config import LateFusion, MLP
from mmtune.train.batches import rows_of
from mmtune.train.fit import fit
from mmtune.train.recipe import Train, TrialConfig
from mmtune.train.trial import take

dataset = load(Path(sys.argv[1]), verify=False)
resource.setrlimit(resource.RLIMIT_DATA, (2 * 2**30,) * 2)
values = dataset.train.banks["image"].values
assert values.nbytes > 2.2 * 2**30
try:
    np.ones(values.nbytes, np.uint8)
except MemoryError:
    print("no room for a copy")
rows = rows_of(dataset.train, 2, ("image",))
every = np.arange(0, len(values), 500)
config = TrialConfig(model=LateFusion(encoders={"image": MLP(hidden=8)}), train=Train(epochs=2, batch_size=64))
found = fit(config, take(rows, every[::2]), take(rows, every[1::2]), seed=0)
print(len(found.history))
"""


def write_sparse(folder: Path) -> None:
    """A data set of pictures that are all black, but for those that are looked at: on disk it takes nearly nothing."""
    (folder / "train").mkdir(parents=True)
    image = {"kind": "picture", "height": 64, "width": 64, "colour": True}
    facts = {"name": "large", "digest": "0", "classes": ["dark", "light"], "groups": [], "partitions": ["train"]}
    manifest = {"format": 3, **facts, "forms": {"image": image}, "provenance": {}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    labels = np.arange(ROWS) // 500 % 2
    np.save(folder / "train/labels.npy", labels)
    np.save(folder / "train/image.index.npy", np.arange(ROWS))
    with (folder / "train/image.values.npy").open("wb") as file:
        npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (ROWS, *SHAPE)})
        begin = file.tell()
        file.truncate(begin + ROWS * int(np.prod(SHAPE)))
    pixels = np.memmap(folder / "train/image.values.npy", np.uint8, "r+", begin, (ROWS, *SHAPE))
    pixels[500::1000] = 200


def test_a_bank_larger_than_the_memory_trains(tmp_path: Path) -> None:
    write_sparse(tmp_path / "large")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "large")], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split("\n")[:2] == ["no room for a copy", "2"], done.stdout + done.stderr
