"""Samples as small images: which ones are images, and PNG data of them."""

import base64
import math
import re
import struct
import zlib
from collections.abc import Sequence

import numpy as np

from layerflow.parameter import Array

PIXEL_NAME = re.compile(r"(p|px|pix|pixel)?[ _-]?\d+([ _x-]\d+)?", re.IGNORECASE)
SMALLEST, SMALLEST_UNNAMED = 16, 64


def as_images(x: Array, features: Sequence[str] | None) -> Array | None:
    """Return samples as (n, height, width) or (n, height, width, 3) in 0 ... 255, or `None` if they are not images.

    Images are samples of shape (channels, height, width), or a square number of columns that are named like pixels
    (p00, pixel12, 3x7) or, from 8 x 8 on, not named at all. Black and white are the lowest and highest values among the
    samples.
    """
    if x.ndim == 4:
        images = np.moveaxis(x, 1, -1) if x.shape[1] == 3 else x.mean(axis=1)
    elif x.ndim == 3:
        images = x
    elif x.ndim == 2 and _are_pixels(x.shape[1], features):
        side = math.isqrt(x.shape[1])
        images = x.reshape(len(x), side, side)
    else:
        return None
    images = np.asarray(images, np.float64)
    low, high = images.min(initial=np.inf), images.max(initial=-np.inf)
    scaled: Array = np.round(255 * (images - low) / ((high - low) or 1.0)).astype(np.uint8)
    return scaled


def _are_pixels(count: int, features: Sequence[str] | None) -> bool:
    if math.isqrt(count) ** 2 != count:
        return False
    if features is None:
        return count >= SMALLEST_UNNAMED
    return count >= SMALLEST and all(PIXEL_NAME.fullmatch(name) for name in features)


def png_url(image: Array) -> str:
    """Return (height, width) or (height, width, 3) bytes as a PNG file in a data: URL.

    PNG specification (W3C, third edition): signature, IHDR, IDAT, IEND; no filter.
    """
    height, width = image.shape[:2]
    rows = image.reshape(height, -1)
    raw = np.hstack([np.zeros((height, 1), np.uint8), rows]).tobytes()
    color = 2 if image.ndim == 3 else 0
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    parts = [_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(raw, 9)), _chunk(b"IEND", b"")]
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
