"""Data sets, banks by name: sources, features, pairing, splits. Pure, seeded, and free of torch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
