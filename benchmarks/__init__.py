"""What mmtune gains, as ratios to the file that a competent user writes by hand.

    make bench                               both sides on five studies, and the machine's own ceiling
    python -m benchmarks.bench --help        the same with every choice
    python -m benchmarks.workers             two workers against one, and how long a worker takes to start
    python -m benchmarks.pruning             a full search against one that stops hopeless trials early
    make bench-search                        time to an answer beside Ray Tune, Optuna, Syne Tune and the plain loop
    make bench-search KILL=1                 what it costs each of them to be killed half way
    python -m benchmarks.profile             where an epoch's time goes, by kind of operation
    python -m benchmarks.precision           bfloat16 against float32, how fast and how good
    python -m benchmarks.recipes             what a searched recipe is worth beside the papers' own
    python -m benchmarks.replayed            what a search's choices are worth, over trainings that were made once
    python -m benchmarks.coordinator         trials a second of a coordinator alone, and what it holds of many
    python -m benchmarks.scale               the same with 1 to 256 simulated workers, wherever runs are kept
    python -m benchmarks.growth              what a trial costs once there are many
    python -m benchmarks.big_store           the commands on a store of very many runs
    python -m benchmarks.garbage MODEL       what a registered model makes of what is no digit
    python -m benchmarks.table FILE.json     the markdown table of a run that was kept

Results are kept under `benchmarks/results/`, dated, as JSON with the table beside it.
"""
