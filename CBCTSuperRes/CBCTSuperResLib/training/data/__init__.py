"""From files to batches: images decoded once, patches cut, degraded and augmented by draws of their own number.

source = open_source(options.dataset("train"), options)
batches = Batches(source, batch_size=32, seed=6, workers=8)
batches.start(from_step=1)
(batch,) = next(batches)   # {"LR": (32, 1, 64, 64), "HR": (32, 1, 128, 128)}
"""

from .batches import Batches
from .opening import ImagePair, Images, TrainingSource, open_images, open_source
from .patients import split_by_patient
from .sources import Source

__all__ = [
    "Batches",
    "ImagePair",
    "Images",
    "Source",
    "TrainingSource",
    "open_images",
    "open_source",
    "split_by_patient",
]
