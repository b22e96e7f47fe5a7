"""What people would search with instead of mmtune, each as somebody writes it who knows the tool well.

All of them train by one loop (`training`), which is kind to them: the printed network, resident tensors and index
batches in place of a loader, torch's fused Adam, one `.item()` an epoch, one call of MLflow an epoch, the best weights
as a bare state dict, and a model in MLflow's own format of the best trial alone. `plain` is the exception: it is the
plain loop of `benchmarks.plain`, loader and all, with TPE's draws. mmtune is run as its users run it.

`python -m benchmarks.rivals SIDE JSON` is one side in this process; `benchmarks.search` starts it and reads what it
leaves in its folder.
"""
