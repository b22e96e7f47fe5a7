"""The command line: one short function per verb. Flags say where and how much; what is tried is a study's file.

Whatever is slow to import is imported by the verb that needs it, so that `--help` answers at once.
"""

# Verbs stand in the help in the order in which they are made.
from mmtune.cli import searching, looking, models, datasets  # isort: skip
from mmtune.cli.program import answer, app, main, process

__all__ = ["answer", "app", "datasets", "looking", "main", "models", "process", "searching"]
