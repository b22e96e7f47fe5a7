"""Data sets of pairs: sources, features, pairing, splits. Pure, seeded, and free of torch."""
