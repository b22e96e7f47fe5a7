"""`python -m mmtune.cli`."""

from mmtune.cli.program import process

if __name__ == "__main__":
    process()
