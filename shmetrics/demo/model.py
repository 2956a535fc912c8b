"""A small image classifier in numpy, in float32 and in int8, with random but fixed weights."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

SIDE: Final = 32
CLASSES: Final = 10
_HIDDEN: Final = 256

Batch = NDArray[np.float32]


class Model:
    """Two dense layers. Thread-safe: nothing changes after construction."""

    def __init__(self, seed: int = 7) -> None:
        random = np.random.default_rng(seed)
        self._hidden = random.standard_normal((SIDE * SIDE, _HIDDEN), np.float32) / np.float32(SIDE)
        self._output = random.standard_normal((_HIDDEN, CLASSES), np.float32) / np.float32(16)
        self._hidden_int8, self._hidden_scale = quantize(self._hidden)

    def predict(self, images: Batch) -> list[int]:
        """The class of each image. ``images``: float32 of shape (n, SIDE * SIDE)."""
        hidden = np.maximum(images @ self._hidden, 0.0)
        return [int(label) for label in (hidden @ self._output).argmax(axis=1)]

    def predict_int8(self, images: NDArray[np.int8], scale: float) -> list[int]:
        """The same from quantized images, the first layer in integer arithmetic."""
        product = images.astype(np.int32) @ self._hidden_int8.astype(np.int32)
        hidden = np.maximum(product * np.float32(scale * self._hidden_scale), 0.0)
        return [int(label) for label in (hidden @ self._output).argmax(axis=1)]


def preprocess(seed: int, batch_size: int) -> Batch:
    """Make the images that `seed` stands for and normalise each: float32 of shape (batch_size, SIDE * SIDE)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (batch_size, SIDE, SIDE)).astype(np.float32)
    smooth = (pixels + np.roll(pixels, 1, axis=1) + np.roll(pixels, 1, axis=2)) / 3.0
    flat = smooth.reshape(batch_size, -1)
    normal: Batch = (flat - flat.mean(axis=1, keepdims=True)) / flat.std(axis=1, keepdims=True)
    return normal


def quantize(values: NDArray[np.float32]) -> tuple[NDArray[np.int8], float]:
    """Symmetric int8 quantization: integers from -127 to 127, and the scale that turns them back."""
    scale = float(np.abs(values).max()) / 127.0 or 1.0
    return np.round(values / scale).astype(np.int8), scale
