"""Settings of the augmentation: one Spec for each transform, composed by :class:`AugmentConfig`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from medseg.config.base import Spec

Share = Annotated[float, Field(ge=0, le=1)]


class RandomConfig(Spec):
    """A transform without settings of its own.

    Attributes:
        probability: probability of the transform.
    """

    probability: float = Field(default=0.0, ge=0, le=1)


class AffineConfig(RandomConfig):
    """Rotation, scaling and shear around the center of the patch.

    Attributes:
        rotate: largest angle in degrees, in both directions: around the image normal in 2D, around each axis in
            3D. Volumes with thick slices are rotated within the slices only.
        scale: smallest and largest magnification, drawn log-uniformly. [0.5, 2] makes random resized crops.
        stretch: further magnification of each axis alone, by a factor between 1 / (1 + stretch) and
            1 + stretch.
        shear: largest shear factor, in both directions.
    """

    rotate: float = Field(default=0.0, ge=0, le=180)
    scale: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    stretch: float = Field(default=0.0, ge=0)
    shear: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _check_range(self) -> AffineConfig:
        _check_order("scale", *self.scale)
        return self


class ElasticConfig(RandomConfig):
    """Smooth random displacement: a cubic B-spline over a grid of control points (Rueckert et al. 1999).

    Attributes:
        control_points: smallest and largest number of intervals between control points along the longest side
            of the patch.
        displacement: smallest and largest displacement of the control points, as a share of the distance
            between them; below 0.4 the transform cannot fold.
    """

    control_points: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (3, 7)
    displacement: tuple[Share, Share] = (0.05, 0.25)

    @model_validator(mode="after")
    def _check_range(self) -> ElasticConfig:
        _check_order("control_points", *self.control_points)
        _check_order("displacement", *self.displacement)
        return self


class FlipConfig(RandomConfig):
    """Flips along axes.

    Attributes:
        probability: probability for each axis, drawn independently.
        axes: spatial axes that may be flipped.
    """

    axes: tuple[int, ...] = ()


class NoiseConfig(RandomConfig):
    """Gaussian noise.

    Attributes:
        std: the standard deviation is drawn between 0 and this value (in normalized intensities).
    """

    std: float = Field(default=0.1, ge=0)


class BlurConfig(RandomConfig):
    """Gaussian blur.

    Attributes:
        sigma: range that the standard deviation is drawn from for each axis, in voxels.
    """

    sigma: tuple[PositiveFloat, PositiveFloat] = (0.5, 1.0)

    @model_validator(mode="after")
    def _check_range(self) -> BlurConfig:
        _check_order("sigma", *self.sigma)
        return self


class IntensityConfig(RandomConfig):
    """A random factor or offset.

    Attributes:
        low: smallest value.
        high: largest value.
    """

    low: float = 0.0
    high: float = 0.0

    @model_validator(mode="after")
    def _check_range(self) -> IntensityConfig:
        _check_order("low, high", self.low, self.high)
        return self


class FieldConfig(RandomConfig):
    """A smooth random field over the patch: a cubic B-spline with values from -1 to 1, times a drawn strength.

    Attributes:
        strength: the strength is drawn between 0 and this value.
        intervals: largest number of intervals between control points along each axis; 1 is a cubic polynomial.
    """

    strength: float = Field(default=0.3, ge=0)
    intervals: int = Field(default=2, ge=1)


class BackgroundConfig(RandomConfig):
    """Background that is moved toward the foreground's intensities within smooth random regions.

    Attributes:
        strength: smallest and largest change, as a share of the difference between the mean intensity of the
            background and that of the faintest tenth of the foreground; 1 makes them equal.
        intervals: largest number of intervals between the control points of the regions along each axis.
        texture: largest standard deviation of the noise within the regions, relative to the change.
    """

    strength: tuple[Share, Share] = (0.1, 0.6)
    intervals: int = Field(default=5, ge=1)
    texture: float = Field(default=0.2, ge=0)

    @model_validator(mode="after")
    def _check_range(self) -> BackgroundConfig:
        _check_order("strength", *self.strength)
        return self


class HistogramConfig(RandomConfig):
    """A random monotone, piecewise linear map of the intensities that keeps minimum and maximum.

    Attributes:
        knots: largest number of inner knots, at equal distances.
        strength: largest natural logarithm of a slope, before the slopes are scaled to keep the range.
    """

    knots: int = Field(default=6, ge=1)
    strength: float = Field(default=0.7, ge=0)


class ColorConfig(RandomConfig):
    """Rotation of the hue and scaling of the saturation of a picture in RGB.

    Attributes:
        hue: largest rotation around the gray axis, degrees.
        saturation: largest relative change of the saturation.
    """

    hue: float = Field(default=15.0, ge=0, le=180)
    saturation: float = Field(default=0.3, ge=0, le=1)


class StainConfig(RandomConfig):
    """Variation of hematoxylin, eosin and DAB in a picture in RGB (Tellez et al. 2018, arXiv:1808.05896).

    Attributes:
        scale: largest relative change of the amount of a stain.
        shift: largest offset of the amount of a stain.
    """

    scale: float = Field(default=0.2, ge=0, le=1)
    shift: float = Field(default=0.05, ge=0)


class StyleConfig(RandomConfig):
    """Intensities of another training case (its patch gives the style, not the content).

    ``fourier`` mixes the amplitudes of low frequencies (Xu et al. 2021, arXiv:2105.11120; Yang and Soatto 2020,
    arXiv:2004.05498); ``histogram`` mixes the quantiles of the intensities.

    Attributes:
        kind: what is taken from the other case; ``any`` draws one of the two.
        band: largest frequency that is mixed, as a share of the Nyquist frequency.
    """

    kind: Literal["any", "fourier", "histogram"] = "any"
    band: float = Field(default=0.1, gt=0, le=1)


class CutMixConfig(RandomConfig):
    """A box of the patch is replaced by that of another sample, image and label (Yun et al. 2019,
    arXiv:1905.04899).

    Attributes:
        size: smallest and largest side of the box, as a share of the patch.
    """

    size: tuple[Share, Share] = (0.25, 0.6)

    @model_validator(mode="after")
    def _check_range(self) -> CutMixConfig:
        _check_order("size", *self.size)
        return self


class FinalConfig(Spec):
    """The last part of a training, which leaves out some of the transforms.

    Transforms that make images unlike those of the dataset teach the network to be robust, and cost accuracy on
    images like those of the dataset. Training without them while the learning rate falls wins it back.

    Attributes:
        start: position in the training (0 to 1) from which the transforms are left out; the change takes place
            between two epochs.
        without: names of the transforms.
    """

    start: float = Field(default=0.7, gt=0, lt=1)
    without: tuple[str, ...] = ("illumination", "inversion", "color", "stain", "gray")


def _check_order(name: str, low: float, high: float) -> None:
    if low > high:
        raise ValueError(f"{name}: {low} is above {high}; expected the smaller number first")


class AugmentConfig(Spec):
    """Parameters of the augmentation; see :func:`augmentation_preset` for useful values.

    ``color``, ``stain``, ``gray`` and ``channel_shuffle`` apply to pictures with three channels; other images
    are left as they are.

    Attributes:
        flip: flips along axes.
        affine: rotation, scaling and shear.
        elastic: smooth random displacement.
        noise: Gaussian noise.
        blur: Gaussian blur.
        sharpen: adds the difference from a blurred image (unsharp mask) times the drawn value.
        brightness: multiplies the image by 1 + the drawn value.
        shift: adds a value to each channel, drawn independently.
        contrast: multiplies deviations from the mean by 1 + the drawn value.
        gamma: raises intensities, rescaled to [0, 1], to the drawn power; range, mean and standard deviation
            are preserved.
        inverted_gamma: the same on the inverted image.
        low_resolution: downsamples by a factor drawn from [low, high] and upsamples again.
        bias_field: multiplies intensities, measured from the patch's minimum, by the exponential of a smooth
            field.
        illumination: adds a smooth field, times the patch's range of intensities.
        background: moves the background toward the intensities of the foreground within smooth random regions,
            so that objects have surroundings of an intermediate intensity.
        histogram: random monotone map of the intensities.
        inversion: exchanges dark and bright: 1 - x where intensities are in [0, 1], otherwise -x.
        channel_dropout: sets one of several channels to 0.
        color: hue and saturation.
        stain: amounts of the stains of histology.
        gray: replaces a picture in RGB by its gray values.
        channel_shuffle: permutes the channels of a picture in RGB.
        style: intensities of another training case.
        cutmix: exchanges a box with another sample.
        final: transforms that the last part of the training leaves out; by default none.
        per_channel: probability that each channel of an image draws values of its own, for the transforms
            ``noise`` to ``inversion``; otherwise all channels have the same.
    """

    flip: FlipConfig = FlipConfig()
    affine: AffineConfig = AffineConfig()
    elastic: ElasticConfig = ElasticConfig()
    noise: NoiseConfig = NoiseConfig()
    blur: BlurConfig = BlurConfig()
    sharpen: IntensityConfig = IntensityConfig(low=0.2, high=1.0)
    brightness: IntensityConfig = IntensityConfig()
    shift: IntensityConfig = IntensityConfig()
    contrast: IntensityConfig = IntensityConfig()
    gamma: IntensityConfig = IntensityConfig(low=0.7, high=1.5)
    inverted_gamma: IntensityConfig = IntensityConfig(low=0.7, high=1.5)
    low_resolution: IntensityConfig = IntensityConfig(low=0.5, high=1.0)
    bias_field: FieldConfig = FieldConfig()
    illumination: FieldConfig = FieldConfig()
    background: BackgroundConfig = BackgroundConfig()
    histogram: HistogramConfig = HistogramConfig()
    inversion: RandomConfig = RandomConfig()
    channel_dropout: RandomConfig = RandomConfig()
    color: ColorConfig = ColorConfig()
    stain: StainConfig = StainConfig()
    gray: RandomConfig = RandomConfig()
    channel_shuffle: RandomConfig = RandomConfig()
    style: StyleConfig = StyleConfig()
    cutmix: CutMixConfig = CutMixConfig()
    final: FinalConfig | None = None
    per_channel: float = Field(default=0.5, ge=0, le=1)

    def at(self, position: float) -> AugmentConfig:
        """Return the augmentation at a position in the training, from 0 to 1.

        Example:
            >>> config = AugmentConfig(gray=RandomConfig(probability=0.5), final=FinalConfig(start=0.7))
            >>> [config.at(position).gray.probability for position in (0.5, 0.7)]
            [0.5, 0.0]
        """
        if self.final is None or position < self.final.start:
            return self
        off = {name: getattr(self, name).model_copy(update={"probability": 0.0}) for name in self.final.without}
        return self.model_copy(update=off)

    @model_validator(mode="after")
    def _check_final(self) -> AugmentConfig:
        transforms = [name for name in type(self).model_fields if isinstance(getattr(self, name), RandomConfig)]
        unknown = [name for name in (self.final.without if self.final else ()) if name not in transforms]
        if unknown:
            expected = ", ".join(transforms)
            raise ValueError(
                f"final.without: {', '.join(unknown)} is no transform; expected some of {expected}"
            )
        return self

    @model_validator(mode="after")
    def _check_positive(self) -> AugmentConfig:
        for name in ("gamma", "inverted_gamma", "low_resolution"):
            low = getattr(self, name).low
            if low <= 0:
                raise ValueError(f"{name}.low is {low}; expected a value above 0")
        return self
