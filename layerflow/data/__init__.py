"""Data: readers, preprocessing, splits and batches."""

from layerflow.data.arrays import NPY, NPZ
from layerflow.data.augmentation import AUGMENTATIONS, Augmentation
from layerflow.data.batches import Batches, Rows, split
from layerflow.data.dataset import Dataset, Encoding
from layerflow.data.generated import Blobs, Moons, Spiral
from layerflow.data.images import CIFAR10, IDX
from layerflow.data.pictures import Images
from layerflow.data.preprocessing import SCALERS, Divide, MinMax, Preprocessing, Scaler, Standard
from layerflow.data.reader import DataPath, Reader
from layerflow.data.series import Windows
from layerflow.data.table import CSV
from layerflow.data.tasks import AddingTask, CopyTask, Parity
from layerflow.data.text import Text

READERS: dict[str, type[Reader]] = {"CSV": CSV, "NPZ": NPZ, "NPY": NPY, "IDX": IDX, "CIFAR10": CIFAR10}
READERS |= {"Text": Text, "Windows": Windows, "Images": Images}
READERS |= {"Moons": Moons, "Spiral": Spiral, "Blobs": Blobs}
READERS |= {"CopyTask": CopyTask, "AddingTask": AddingTask, "Parity": Parity}
"""The readers by their names in configurations."""

__all__ = [
    "AUGMENTATIONS",
    "CIFAR10",
    "CSV",
    "IDX",
    "NPY",
    "NPZ",
    "READERS",
    "SCALERS",
    "AddingTask",
    "Augmentation",
    "Batches",
    "Blobs",
    "CopyTask",
    "DataPath",
    "Dataset",
    "Divide",
    "Encoding",
    "Images",
    "MinMax",
    "Moons",
    "Parity",
    "Preprocessing",
    "Reader",
    "Rows",
    "Scaler",
    "Spiral",
    "Standard",
    "Text",
    "Windows",
    "split",
]
