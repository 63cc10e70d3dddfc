"""Pictures in files: a folder for each class, or a table of paths."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from layerflow.data.dataset import Dataset, encode_labels
from layerflow.data.preprocessing import Preprocessing
from layerflow.data.reader import DataPath, Reader, checksum
from layerflow.data.table import find_column, records
from layerflow.errors import ConfigError, DataError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
PATH_COLUMN = "path"


@dataclass
class Images(Reader):
    """Pictures (PNG, JPEG, ...) as bytes, x is (samples, channels, height, width); needs `layerflow[images]`.

    `path` is a folder that has one folder of pictures per class, or a CSV file with a column `path`, relative to the
    file, and a column of targets. Pictures are turned as their camera noted.

    Args:
        path: The folder or the CSV file.
        target: The column of targets in a CSV file.
        size: Height and width to which pictures are resized; by default they must all have one size.
        mode: "rgb", three channels, or "grey", one.
    """

    path: DataPath
    target: str = "label"
    size: tuple[int, int] | None = None
    mode: Literal["rgb", "grey"] = "rgb"

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 1:
            raise ConfigError(f"Images: 'size' must be two numbers of at least 1, height and width, got {self.size}")

    def read(self, need_target: bool = True, like: Preprocessing | None = None) -> Dataset:
        """Read the pictures; see `Reader.read`."""
        root = Path(self.path)
        files, labels, lines = self._folders(root) if root.is_dir() else self._table(root, need_target)
        size = self.size or (like.sample_shape[1:] if like is not None else None)
        x = np.stack([self._pixels(file, size) for file in files]) if size else self._of_one_size(files)
        y, classes = None, like.classes if like else None
        if need_target:
            y, classes = encode_labels(labels, lambda row: str(files[row]), classes)
        return Dataset(x, y, None, classes, root.stem, checksum(*map(str, files)), (), lines)

    def _folders(self, root: Path) -> tuple[list[Path], list[str], None]:
        files = sorted(file for file in root.glob("*/*") if file.suffix.lower() in ENDINGS)
        if not files:
            raise DataError(f"{root}: no pictures in folders of this folder; expected {root.name}/CLASS/picture.png")
        return files, [file.parent.name for file in files], None

    def _table(self, file: Path, need_target: bool) -> tuple[list[Path], list[str], NDArray[np.int64] | None]:
        rows = records(str(file), ",")
        _, header = next(rows)
        names = [PATH_COLUMN, *([self.target] if need_target else [])]
        at = [find_column(name, header, str(file)) for name in names]
        found = [(line, [cells[place].strip() for place in at]) for line, cells in rows]
        if not found:
            raise DataError(f"{file}: no rows below the header")
        lines = np.array([line for line, _ in found])
        return [file.parent / cells[0] for _, cells in found], [cells[-1] for _, cells in found], lines

    def _of_one_size(self, files: list[Path]) -> NDArray[np.uint8]:
        pictures = []
        for file in files:
            pictures.append(self._pixels(file, None))
            if pictures[-1].shape != pictures[0].shape:
                shapes = [f"{shape[1]} x {shape[2]}" for shape in (pictures[0].shape, pictures[-1].shape)]
                raise DataError(
                    f"{file}: is {shapes[1]} pixels, but {files[0]} is {shapes[0]}; write size: [height, width]"
                )
        return np.stack(pictures)

    def _pixels(self, file: Path, size: Any) -> NDArray[np.uint8]:
        """Return one picture, (channels, height, width)."""
        try:
            from PIL import Image, ImageOps
        except ImportError:
            raise ConfigError("Images needs Pillow: pip install 'layerflow[images]'") from None
        try:
            with Image.open(file) as opened:
                picture = ImageOps.exif_transpose(opened).convert("RGB" if self.mode == "rgb" else "L")
                if size is not None and picture.size != (size[1], size[0]):
                    picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
                pixels = np.asarray(picture, np.uint8)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(f"{file}: cannot be read as a picture: {error}") from error
        return pixels[np.newaxis] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
