"""What a network takes of a large picture, window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from medseg.data.preprocessing.pipeline import PreprocessConfig, intensity_mask
from medseg.data.tiled.normalization_statistics import normalizer
from medseg.data.tiled.tiled_image import Box, TiledImage
from medseg.errors import DataError
from medseg.geometry import Array, same_spacing


class PreprocessedTiledImage:
    """A network's input (C, H, W), of which windows are read, normalized as the whole picture would be.

    ``zscore`` and ``percentile`` read the picture through first.
    Raises: DataError if it cannot be read or has the wrong channels, or if the model resamples pictures.
    """

    resampled = False

    def __init__(self, image: TiledImage, config: PreprocessConfig, channels: int) -> None:
        if config.spacing is not None and not same_spacing((1.0, 1.0), config.spacing):
            raise DataError(
                f"{image.path}: the model resamples pictures to a spacing of {config.spacing} pixels, which is "
                "not done window by window. Read it into memory with --set large_above=1e6, or write it at "
                "that spacing."
            )
        self.shape = (channels, *image.shape)
        self._image, self._channels = image, channels
        self._last: tuple[Box, Array] | None = None
        self._normalize = normalizer(config.normalize, self._blocks)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return self.shape[1:]

    def window(self, box: Box) -> Array:
        """The voxels (C, *box) float32 of a box."""
        return self._normalize(self._raw(box))

    def foreground_mask(self, above: float | None, below: float | None = None) -> Callable[[Box], bool] | None:
        """Whether a box holds anything but background; none without limits (:func:`intensity_mask`)."""
        if above is None and below is None:
            return None
        return lambda box: bool(intensity_mask(self._raw(box), above, below).any())

    def _raw(self, box: Box) -> Array:
        if self._last is None or self._last[0] != box:
            self._last = box, self._image.channels(box, self._channels)
        return self._last[1]

    def _blocks(self) -> Iterator[Array]:
        for box in self._image.boxes():
            yield np.asarray(self._image.channels(box, self._channels))
