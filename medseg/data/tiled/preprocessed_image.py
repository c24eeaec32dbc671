"""Preprocessing of tiled images, window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from medseg.data.preprocessing.pipeline import PreprocessConfig, intensity_mask
from medseg.data.tiled.normalization_statistics import fit_normalization
from medseg.data.tiled.tiled_image import Box, TiledImage
from medseg.errors import DataError
from medseg.geometry import Array, same_spacing


class PreprocessedTiledImage:
    """The input (C, H, W) of a network, of which windows are read and normalized like the whole picture.

    ``zscore`` and ``percentile`` read the whole picture once to compute their statistics.

    Args:
        image: the picture.
        config: the preprocessing of the model.
        channels: input channels of the network.

    Raises:
        DataError: if the picture cannot be read or converted to the channels, or the model resamples pictures.
    """

    resampled = False

    def __init__(self, image: TiledImage, config: PreprocessConfig, channels: int) -> None:
        if config.spacing is not None and not same_spacing((1.0, 1.0), config.spacing):
            raise DataError(
                f"{image.path}: the model resamples pictures to a spacing of {config.spacing} pixels, which is "
                "not supported window by window",
                hint="Read it into memory with --set large_above=1e6, or save it at that spacing.",
                path=image.path,
            )
        self.shape = (channels, *image.shape)
        self._image, self._channels = image, channels
        self._last: tuple[Box, Array] | None = None
        self._normalize = fit_normalization(config.normalize, self._blocks)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return self.shape[1:]

    def window(self, box: Box) -> Array:
        """Read and normalize the pixels (C, *box) float32 of a box."""
        return self._normalize(self._raw(box))

    def foreground_mask(self, above: float | None, below: float | None = None) -> Callable[[Box], bool] | None:
        """Return a function that checks whether a box contains foreground; None if there are no limits.

        The limits are those of :func:`medseg.data.preprocessing.pipeline.intensity_mask`.
        """
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
