"""Data sets, banks by name, and how they are divided. Pure, seeded, and free of torch.

`media` reads pictures and sounds, `forms` makes of them the values of a bank, `storage` keeps data sets on disk,
`building` makes them of what a user has, and `bundled` makes the sample that is used where there is none.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
