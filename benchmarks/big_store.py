"""Seconds of mmtune's commands, and of the searches that MLflow's UI makes, on a store of many trials.

A few real trials on the bundled sample are the pattern; the store is filled with copies of their rows, each with its
own draw of the study's choices, its own scores below those of the real ones, and 20 epochs of metrics. A second study
is there to be compared.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from sqlalchemy import create_engine, func, insert, select

from benchmarks.results import keep_dated
from mmtune.base.fields import flatten, replace_paths
from mmtune.base.sqlite import analyse
from mmtune.data.bundled.sample import sample_folder
from mmtune.data.storage.store import load
from mmtune.study import load_study
from mmtune.study.options import Options
from mmtune.study.space import Categorical, Integer, Value, draw
from mmtune.tracking import COMPLETE, FAIL, PRUNED, STATUS, MlflowTracker, TrialRun
from mmtune.tracking.address import sqlite_path
from mmtune.train.objective import MACRO_F1
from mmtune.tune.run import run_study

STUDY, PARTNER, EPOCHS, CHUNK = "multihead_fusion", "image_cnn", 20, 250


def fill(root: Path, trials: int, seed: int = 0) -> None:
    """A store in `root` with a study of `trials` trials, the first few of them real."""
    run_small(root, PARTNER)
    run_small(root, STUDY)
    tracker = MlflowTracker(root)
    parent = tracker.studies(STUDY)[0].run_id
    real = tracker.trials(parent)
    rng, engine = random.Random(seed), create_engine(tracker.uri)
    for first in range(len(real), trials, CHUNK):
        numbers = range(first, min(first + CHUNK, trials))
        insert_all(engine, [copied(rng.choice(real), number, rng) for number in numbers])
    engine.dispose()
    analyse(sqlite_path(tracker.uri))


def run_small(root: Path, name: str) -> None:
    """A few real trials of a study."""
    options = Options(sampler="random", trials=3, epochs=2, workers=1, device="cpu", prune=False)
    outcome = run_study(load_study(name), load(sample_folder()), options, root, Console(file=io.StringIO()))
    assert outcome is not None


def copied(pattern: TrialRun, number: int, rng: random.Random) -> dict[str, Any]:
    """A trial like a real one, with its own draw, scores and end; one in twenty failed, one in five was pruned."""
    study = load_study(STUDY)
    state = rng.choices([COMPLETE, PRUNED, FAIL], (15, 4, 1))[0]
    base = flatten(study.base)
    values = draw(study.space, base, lambda choice: pick(choice, rng))
    share = rng.uniform(0.3, 0.999)
    scores = {n: share * v if "f1" in n or "accuracy" in n else v for n, v in pattern.metrics.items()}
    tags = {
        **pattern.tags,
        "mmtune.id": uuid.UUID(int=rng.getrandbits(128)).hex,
        "mmtune.number": str(number),
        "mmtune.drawn": json.dumps(values),
        "mmtune.params": json.dumps(flatten(replace_paths(study.base, values))),
        "mlflow.runName": f"{number:02d} copied",
    }
    failed = {"mmtune.reason": "ValueError: made up", "mmtune.retry": "False"} if state == FAIL else {}
    return {
        "of": pattern.run_id,
        "run_id": uuid.UUID(int=rng.getrandbits(128)).hex,
        "name": f"{number:02d} copied",
        "status": STATUS[state],
        "started": pattern.started + 1_000 * number,
        "params": flatten(replace_paths(study.base, values)),
        "tags": tags | failed,
        "metrics": {} if state == FAIL else scores,
        "share": share,
    }


def pick(choice: Any, rng: random.Random) -> Value:
    """A value of a choice."""
    if isinstance(choice, Categorical):
        return rng.choice(choice.values)
    return rng.randint(choice.low, choice.high) if isinstance(choice, Integer) else rng.uniform(choice.low, choice.high)


def insert_all(engine: Any, runs: list[dict[str, Any]]) -> None:
    """The rows of runs, into MLflow's own tables."""
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag

    with engine.begin() as store:
        patterns = {run["of"] for run in runs}
        found = {
            row.run_uuid: row for row in store.execute(select(SqlRun.__table__).where(SqlRun.run_uuid.in_(patterns)))
        }
        curves = {of: last_epoch(store, of) for of in patterns}
        store.execute(
            insert(SqlRun),
            [
                {
                    **found[run["of"]]._mapping,
                    **{"run_uuid": run["run_id"], "name": run["name"], "status": run["status"]},
                    **{"start_time": run["started"], "end_time": run["started"] + 1_000},
                }
                for run in runs
            ],
        )
        for table, field in ((SqlTag, "tags"), (SqlParam, "params")):
            store.execute(insert(table), [r for run in runs for r in plain_rows(run["run_id"], run[field])])
        store.execute(insert(SqlLatestMetric), [r for run in runs for r in metric_rows(run, {0: run["metrics"]})])
        history = [
            r for run in runs for r in metric_rows(run, {0: run["metrics"]}, epochs(curves[run["of"]], run["share"]))
        ]
        store.execute(insert(SqlMetric), history)


def last_epoch(store: Any, run_id: str) -> dict[str, float]:
    """What a real trial reported of its epochs, as it was in one of them."""
    from mlflow.store.tracking.dbmodels.models import SqlMetric

    # What it has in the end it has once.
    of_epochs = select(SqlMetric.key, func.max(SqlMetric.value)).where(SqlMetric.run_uuid == run_id)
    return dict(store.execute(of_epochs.group_by(SqlMetric.key).having(func.count() > 1)).all())


def epochs(last: Mapping[str, float], share: float) -> dict[int, dict[str, float]]:
    """Curves that rise to the share of a real trial's numbers."""
    return {e: {n: v * share * (0.5 + e / 2 / EPOCHS) for n, v in last.items()} for e in range(1, EPOCHS + 1)}


def plain_rows(run_id: str, values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows of tags or params."""
    return ({"run_uuid": run_id, "key": name, "value": str(value)} for name, value in values.items())


def metric_rows(run: Mapping[str, Any], *steps: Mapping[int, Mapping[str, float]]) -> Iterator[dict[str, Any]]:
    """Rows of metrics by step."""
    return (
        {"run_uuid": run["run_id"], "key": n, "value": v, "timestamp": 1_700_000_000_000, "step": step, "is_nan": False}
        for by_step in steps
        for step, metrics in by_step.items()
        for n, v in metrics.items()
    )


def timed(*words: str) -> float:
    """Seconds of a command of mmtune, its start included."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "mmtune.cli", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def measure(root: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of each command, every time."""
    commands = ("report", STUDY), ("compare", PARTNER, STUDY), ("promote", STUDY), ("studies",)
    return {own[0]: [timed(*own, "--store", str(root)) for _ in range(repeats)] for own in commands}


def measure_searches(root: Path, repeats: int) -> dict[str, list[float]]:
    """`time_searches` in a process of its own: a connection plans by what was known of tables when it was opened."""
    code = f"import json, pathlib, benchmarks.big_store as b; r = pathlib.Path({str(root)!r})"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(json.dumps(b.time_searches(r, {repeats})))"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def time_searches(root: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of MLflow's own searches for the 100 runs that its list of a study's runs begins with."""
    client = MlflowTracker(root).client
    experiment = client.get_experiment_by_name(STUDY).experiment_id
    orders = {"the last runs": "attributes.start_time DESC", "the best runs": f"metrics.{MACRO_F1.name} DESC"}
    found: dict[str, list[float]] = {name: [] for name in orders}
    for name in [*orders] * repeats:
        began = time.perf_counter()
        assert len(client.search_runs([experiment], max_results=100, order_by=[orders[name]])) == 100
        found[name].append(time.perf_counter() - began)
    return found


def rows_of(root: Path) -> dict[str, int]:
    """How many rows the store has."""
    with sqlite3.connect(root / "mlflow.db") as store:
        tables = ("runs", "metrics", "latest_metrics", "params", "tags")
        return {table: store.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in tables}


def main() -> None:
    """Fill, measure, print, and keep."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--trials", type=int, default=10_000)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--store", type=Path, help="keep the store there, and use it again if it is there")
    arguments.add_argument("--out", type=Path, help="the folder of dated results, such as benchmarks/results")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = given.store or Path(folder) / "mlruns"
        if not root.exists():
            fill(root, given.trials)
        counted, found = rows_of(root), measure(root, given.repeats)
        searches = measure_searches(root, given.repeats)
        size = (root / "mlflow.db").stat().st_size / 2**30
        pages = [page.stat().st_size / 2**20 for page in (root / "reports").glob("*.html")]
    print(", ".join(f"{count:,} {table}" for table, count in counted.items()))
    for name, seconds in found.items():
        print(f"mmtune {name:<8} {told(seconds)}")
    for name, seconds in searches.items():
        print(f"MLflow's search for {name}: {told(seconds)}")
    print(f"page: {max(pages):.1f} MiB, store: {size:.1f} GiB")
    if given.out:
        made_with = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "mlflow": version("mlflow")}
        own = {"rows": counted, "seconds": found, "searches": searches, "page_mib": max(pages), "store_gib": size}
        print(keep_dated(given.out, f"big-store-{counted['runs'] // 1000}k", {**own, "versions": made_with}))


def told(seconds: list[float]) -> str:
    """Times in words."""
    return f"{min(seconds):.2f} s (of {len(seconds)}: {', '.join(f'{s:.2f}' for s in seconds)})"


if __name__ == "__main__":
    main()
