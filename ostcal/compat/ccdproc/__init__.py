"""`combine` and `Combiner` with the signatures and results of ccdproc 2.5; ccdproc itself is not needed.

``from ostcal.compat.ccdproc import combine`` in place of ``from ccdproc import combine``: see ``docs/migration.md``.
"""

from ostcal.compat.ccdproc.combine_images import combine
from ostcal.compat.ccdproc.combiner import Combiner
from ostcal.compat.ccdproc.numpy_definitions import sigma_func

__all__ = ["Combiner", "combine", "sigma_func"]
