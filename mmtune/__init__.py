"""mmtune: tune, track, promote and serve small multimodal classifiers, of your own data and networks.

The public names stand in `__init__.pyi`, each with where it comes from; it is imported when it is first asked for.
docs/api.md explains them.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
