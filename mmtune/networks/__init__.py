"""Architectures: a configuration in, a module out; its forward takes banks by name and returns logits or an Output."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
