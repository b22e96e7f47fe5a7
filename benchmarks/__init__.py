"""What mmtune gains, as ratios to the file that a competent user writes by hand.

    make bench                               both sides on five studies, and the machine's own ceiling
    python -m benchmarks.bench --help        the same with every choice
    python -m benchmarks.workers             two workers against one, and how long a worker takes to start
    python -m benchmarks.pruning             a full search against one that stops hopeless trials early
    make bench-search                        time to an answer beside Ray Tune, Optuna, Syne Tune and the plain loop
    make bench-search KILL=1                 what it costs each of them to be killed half way
    python -m benchmarks.table FILE.json     the markdown table of a run that was kept

Results are kept under `benchmarks/results/`, dated, as JSON with the table beside it.
"""
