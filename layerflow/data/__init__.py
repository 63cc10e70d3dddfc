"""Data: readers, preprocessing, splits and batches."""

from layerflow.data.arrays import NPY, NPZ
from layerflow.data.batches import Batches, split
from layerflow.data.csv_reader import CSV
from layerflow.data.dataset import Dataset, Encoding
from layerflow.data.generated import Blobs, Moons, Spiral
from layerflow.data.images import CIFAR10, IDX
from layerflow.data.paths import DataPath
from layerflow.data.preprocessing import Preprocessing
from layerflow.data.reader import Reader
from layerflow.data.rows import Rows
from layerflow.data.scaling import SCALERS, Divide, MinMax, Scaler, Standard

READERS: dict[str, type[Reader]] = {
    reader.__name__: reader for reader in (CSV, NPZ, NPY, IDX, CIFAR10, Moons, Spiral, Blobs)
}
"""The readers by their names in configurations."""

__all__ = [
    "CIFAR10",
    "CSV",
    "IDX",
    "NPY",
    "NPZ",
    "READERS",
    "SCALERS",
    "Batches",
    "Blobs",
    "DataPath",
    "Dataset",
    "Divide",
    "Encoding",
    "MinMax",
    "Moons",
    "Preprocessing",
    "Reader",
    "Rows",
    "Scaler",
    "Spiral",
    "Standard",
    "split",
]
