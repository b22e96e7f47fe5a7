"""Each report's own configuration made again, and reported numbers held against measured ones."""
