"""Large pictures piece by piece: each format gives the pixels it holds; statistics are those of the whole."""

import io
import math
from contextlib import nullcontext

import numpy as np
import openslide
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medseg.data.cases import Case
from medseg.data.curation.case_statistics import image_digest
from medseg.data.io.pictures import convert_channels
from medseg.data.io.readers import image_stem, read_scan
from medseg.data.preprocessing.normalization import Percentile, ZScore, ZScoreNonzero
from medseg.data.tiled.formats import open_tiled
from medseg.data.tiled.normalization_statistics import fit_normalization, moments, percentiles
from medseg.data.tiled.tiff import TiffLevel
from medseg.data.tiled.tiff_writer import TiledTiffWriter
from medseg.data.tiled.tiled_image import TiledImage
from medseg.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (150, 210, 3)).astype(np.uint8)
EVERYTHING = (slice(0, 150), slice(0, 210))


def write_levels(path, *, subifds, step=1):
    """A pyramid of three levels, in sub-images or in pages."""
    with tifffile.TiffWriter(path, byteorder=">" if subifds else "<") as tiff:
        for k in (1, 2, 4):
            tiff.write(
                PIXELS[::k, ::k], tile=(32, 48), compression="zlib", photometric="rgb", metadata=None,
                subfiletype=int(k > 1), subifds=2 if subifds and k == 1 else None,
            )  # fmt: skip
    return path


TIFFS = {
    "tiles": {"tile": (32, 48), "compression": "zlib"},
    "predictor": {"tile": (32, 48), "compression": "zlib", "predictor": True},
    "plain tiles": {"tile": (32, 48)},
    "strips": {"rowsperstrip": 7, "compression": "zlib"},
    "plain strips": {"rowsperstrip": 7},
    "raw": {},
    "big-endian": {"byteorder": ">"},
    "lzma": {"tile": (32, 48), "compression": "lzma"},
}


BOXES = [((0, 150), (0, 210)), ((3, 97), (40, 60)), ((64, 65), (0, 1)), ((149, 150), (200, 210))]


@pytest.mark.parametrize("options", TIFFS.values(), ids=TIFFS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiffs(tmp_path, options, dtype):
    if dtype == np.float32 and "predictor" in options:
        pytest.skip("tifffile needs imagecodecs for it")
    pixels = PIXELS.astype(dtype) * dtype(1 if dtype == np.uint8 else 200)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", metadata=None, **options)
    with open_tiled(path, above=0) as image:
        for box in ((slice(*rows), slice(*columns)) for rows, columns in BOXES):
            assert np.array_equal(image.read(box), pixels[box])
        assert np.array_equal(image.channels(EVERYTHING, 1), convert_channels(read_scan(path), 1))
        assert np.array_equal(image.subsample(7, 3), np.moveaxis(pixels[::7, ::7], -1, 0))


PLANES = np.moveaxis(PIXELS, -1, 0)
RGBA = np.concatenate([PIXELS, PIXELS[..., :1]], axis=-1)
COLORS = np.arange(768).reshape(3, 256).astype(np.uint16) * 85
KINDS = {
    "planar": (PLANES, {"photometric": "rgb", "planarconfig": "separate"}),
    "gray": (PIXELS[..., 0], {"photometric": "minisblack"}),
    "alpha": (RGBA, {"photometric": "rgb", "extrasamples": ["UNASSALPHA"]}),
    "bits": (PIXELS[..., 0] > 99, {"photometric": "minisblack"}),
    "palette": (PIXELS[..., 0], {"photometric": "palette", "colormap": COLORS}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_converted_as_in_memory(tmp_path, kind, channels):
    pixels, options = KINDS[kind]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, tile=(32, 48), metadata=None, **options)
    with open_tiled(path, above=0) as image:
        assert np.array_equal(image.channels(EVERYTHING, channels), convert_channels(read_scan(path), channels))


def test_pages_are_channels_or_slices(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, PLANES, tile=(32, 48), photometric="minisblack", metadata={"axes": "CYX"})
    with open_tiled(path, above=1e9) as image:  # no other reader supports them
        assert np.array_equal(image.read(EVERYTHING), PIXELS)
        assert (image_stem(path), image.samples) == ("a", 3)
    stack = tmp_path / "stack.tif"
    tifffile.imwrite(stack, PIXELS[..., 0].reshape(5, 30, 210), metadata=None)
    assert open_tiled(stack, above=0) is None


@pytest.mark.parametrize("subifds", [True, False], ids=["sub-images", "pages"])
def test_levels_of_a_pyramid(tmp_path, subifds):
    path = write_levels(tmp_path / "a.tif", subifds=subifds)
    with open_tiled(path, above=1e9) or nullcontext() as opened:
        assert (opened is None) is subifds  # pages: no other reader takes them
    with open_tiled(path, above=1e9, level=1) as image:
        assert image.levels == ((150, 210), (75, 105), (38, 53))
        assert np.array_equal(image.read((slice(5, 60), slice(9, 105))), PIXELS[10:120:2, 18:210:2])
        assert np.array_equal(image.at(2).subsample(1, 3), np.moveaxis(PIXELS[::4, ::4], -1, 0))
    with pytest.raises(DataError, match=r"no level 3; its levels are 0 \(150×210\), 1 \(75×105\), 2"):
        open_tiled(path, above=0, level=3)


def write_store(path, axes, version):
    """OME-Zarr of two levels."""
    group = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    order = {"yx": PIXELS[..., 0], "cyx": PLANES, "tczyx": PLANES[None, :, None]}
    datasets = []
    for level, k in enumerate((1, 2)):
        data = order[axes][..., ::k, ::k]
        chunks = (1,) * (data.ndim - 2) + (32, 48)
        array = group.create_array(str(level), shape=data.shape, chunks=chunks, dtype=data.dtype)
        array[...] = data
        scale = [1.0] * (len(axes) - 2) + [0.5 * k, 0.25 * k]
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    units = [{"name": a, "unit": "micrometer"} if a in "zyx" else {"name": a} for a in axes]
    scales = [{"version": version, "axes": units, "datasets": datasets}]
    ome = {"version": "0.5", "multiscales": scales}
    group.attrs.update({"multiscales": scales} if version == "0.4" else {"ome": ome})
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["yx", "cyx", "tczyx"])
def test_ome_zarr(tmp_path, axes, version):
    path = write_store(tmp_path / "a.ome.zarr", axes, version)
    expected = PIXELS[..., :1] if axes == "yx" else PIXELS
    image = open_tiled(path, above=1e9)
    assert (image.shape, image.spacing_um) == ((150, 210), (0.5, 0.25))
    assert np.array_equal(image.read((slice(3, 140), slice(50, 210))), expected[3:140, 50:210])
    level = open_tiled(path, above=0, level=1)
    assert (level.shape, level.spacing_um) == ((75, 105), (1.0, 0.5))
    assert np.array_equal(level.read((slice(0, 75), slice(3, 105))), expected[::2, 6::2])
    assert np.array_equal(np.moveaxis(read_scan(path).array, 0, -1), expected)
    assert image_stem(path) == "a"
    case = Case("a", path)
    digest = image_digest(case)
    chunk = sorted(p for p in path.rglob("*") if p.is_file())[-1]
    chunk.write_bytes(b"x" + chunk.read_bytes()[1:])
    assert image_digest(case) != digest


def test_unsuitable_and_damaged_stores_raise(tmp_path):
    zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    with pytest.raises(DataError, match="without OME's multiscales"):
        open_tiled(tmp_path / "a.zarr", above=0)
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(DataError, match=r"b\.zarr: cannot be read as OME-Zarr"):
        open_tiled(tmp_path / "b.zarr", above=0)
    path = write_store(tmp_path / "c.zarr", "cyx", "0.5")
    (path / "0" / "c" / "1" / "1" / "1").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"c\.zarr: cannot be read at row 0, column 0, truncated"):
        open_tiled(path, above=0).read(EVERYTHING)


def test_a_slide_is_read_with_openslide(tmp_path):
    path = write_levels(tmp_path / "a.tif", subifds=False).rename(tmp_path / "a.svs")
    with open_tiled(path, above=1e9) as image:
        assert image.levels == ((150, 210), (75, 105), (38, 53))
        assert np.array_equal(image.read((slice(3, 150), slice(50, 210))), PIXELS[3:, 50:])
    assert np.array_equal(read_scan(path).array, PLANES)
    bad = tmp_path / "bad.svs"
    bad.write_bytes(b"not a slide")
    with pytest.raises(DataError, match=r"bad\.svs: cannot be read as a whole slide"):
        open_tiled(bad, above=0)


@pytest.mark.data
def test_a_slide_in_dicom(data_root):
    folder = data_root / "wsi_dicom"
    file = next(folder.glob("*.dcm"))
    slide = openslide.OpenSlide(file)
    expected = np.asarray(slide.read_region((300, 200), 0, (500, 400)).convert("RGB"))
    for path in (file, folder):
        with open_tiled(path, above=1e9) as image:
            assert image.shape == (1547, 1680)
            assert np.array_equal(image.read((slice(200, 600), slice(300, 800))), expected)
    with pytest.raises(DataError, match="whole-slide picture"):
        read_scan(file)


def jpeg(path):
    """A tiled TIFF with JPEG compression, as in slides, which tifffile alone cannot decode."""

    def tiles():
        for top in range(0, 128, 64):
            for left in range(0, 192, 64):
                stream = io.BytesIO()
                Image.fromarray(PIXELS[top : top + 64, left : left + 64]).save(
                    stream, "JPEG", quality=95, subsampling=0
                )
                yield stream.getvalue()

    tifffile.imwrite(path, tiles(), shape=(128, 192, 3), dtype=np.uint8, tile=(64, 64), compression="zlib",
                     photometric="rgb", metadata=None)  # fmt: skip
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages[0].tags["Compression"].overwrite(7)
        tiff.pages[0].tags["PhotometricInterpretation"].overwrite(6)
    return path


def test_codecs_that_tifffile_lacks_are_decoded_by_openslide(tmp_path, monkeypatch):
    path = jpeg(tmp_path / "a.tif")
    with open_tiled(path, above=0) as image:
        assert image.shape == (128, 192)
        found = image.read((slice(0, 128), slice(0, 192))).astype(int)
        assert np.abs(found - PIXELS[:128, :192]).mean() < 20
    monkeypatch.setattr("medseg.data.tiled.formats.is_slide", lambda path: False)
    assert open_tiled(path, above=0) is None  # small: Pillow reads it
    monkeypatch.setattr("medseg.data.tiled.formats.MAX_IN_MEMORY_PIXELS", 100)
    with pytest.raises(DataError, match=r"compressed by JPEG\. .*pip install"):
        open_tiled(path, above=0)


def test_tiles_are_decoded_once_when_windows_are_read_row_by_row(tmp_path, monkeypatch):
    path, seen, decode = tmp_path / "a.tif", [], TiffLevel.decode
    tifffile.imwrite(path, PIXELS, tile=(32, 48), compression="zlib", photometric="rgb")
    monkeypatch.setattr(TiffLevel, "decode", lambda self, *at: seen.append(at) or decode(self, *at))
    with open_tiled(path, above=0) as image:
        for top in range(0, 150 - 40, 20):
            for left in range(0, 210 - 40, 20):
                image.read((slice(top, top + 40), slice(left, left + 40)))
        assert len(seen) == len(set(seen)) == 25
        small = TiledImage(path, image._file, cache_bytes=2 * 32 * 48 * 3)
        small.read(EVERYTHING)
        small.read((slice(140, 150), slice(192, 210)))  # the last piece is cached
        assert len(seen) == 50


@given(st.sampled_from(["u1", "i1", "u2", "i2", "i4", "f4", "f8"]), st.integers(1, 400), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_statistics_equal_those_of_the_whole(dtype, n, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(3, 40, (2, n)) * rng.integers(0, 2, (2, n))
    whole = np.clip(values, 0 if dtype[0] == "u" else -120, 120).astype(dtype)
    blocks = np.array_split(whole, min(n, 3), axis=1)
    percents = (0.5, 30.0, 99.5)
    assert percentiles(lambda: blocks, percents) == [tuple(np.percentile(c, percents)) for c in whole]
    for (mean, std), c in zip(moments(blocks, nonzero=False), whole, strict=True):
        assert math.isclose(mean, c.mean(dtype=np.float64), rel_tol=1e-12, abs_tol=1e-12)
        assert math.isclose(std, c.std(dtype=np.float64), rel_tol=1e-12, abs_tol=1e-12)
    for config in (ZScore(), ZScoreNonzero(), Percentile()):
        np.testing.assert_allclose(
            fit_normalization(config, lambda: blocks)(whole), config(whole), rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize("subifds", [True, False], ids=["sub-images", "pages"])
def test_damage_anywhere_raises_an_error_that_names_the_file(tmp_path, subifds):
    path = write_levels(tmp_path / "a.tif", subifds=subifds)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    messages = []
    for i in range(60):
        damaged = bytearray(whole)
        for at in rng.integers(0, 600 if i % 2 else len(whole), 4):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged if i % 3 else damaged[: rng.integers(len(whole))])
        try:
            with open_tiled(path, above=0) or nullcontext() as image:
                for box in image.boxes() if image is not None else ():
                    image.channels(box, 3)
        except DataError as error:
            messages.append(str(error))
    assert len(messages) > 30
    assert all(str(path) in message for message in messages)


def test_files_above_4_gb_are_big_tiffs(tmp_path, monkeypatch):
    monkeypatch.setattr("medseg.data.tiled.tiff_writer._BIGTIFF_BYTES", 1000)
    for size, big in ((20, False), (600, True)):
        label_map = np.random.default_rng(0).integers(0, 9, (size, size)).astype(np.uint8)
        with TiledTiffWriter(tmp_path / "a.tif", label_map.shape, np.uint8) as writer:
            writer.add(label_map)
            writer.finish()
        with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
            assert tiff.is_bigtiff is big
            assert np.array_equal(tiff.asarray(), label_map)


def test_the_writer_requires_every_row(tmp_path):
    path = tmp_path / "a.tif"
    label_map = np.arange(700 * 600).reshape(700, 600).astype(np.int16)
    with TiledTiffWriter(path, label_map.shape, np.int16) as writer:
        writer.add(label_map[:3])
        with pytest.raises(ValueError, match="3 of 700 rows"):
            writer.finish()
        writer.add(label_map[3:600])
        writer.add(label_map[600:])
        writer.finish()
    assert np.array_equal(tifffile.imread(path), label_map)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("unit", "factor"), [("µm", 1.0), ("nm", 1e-3), ("pixel", None)])
def test_the_spacing_of_ome_tiffs_is_that_of_their_metadata(tmp_path, unit, factor):
    path = tmp_path / "a.ome.tif"
    size = {"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": unit, "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": unit}
    tifffile.imwrite(path, np.zeros((32, 48), np.uint8), tile=(16, 16), metadata={"axes": "YX", **size})
    image = open_tiled(path, above=0)
    assert image is not None
    with image:
        assert image.spacing_um == (None if factor is None else pytest.approx((0.5 * factor, 0.25 * factor)))


@pytest.mark.parametrize("shape", [(600, 550), (600, 550, 3)])
def test_label_maps_are_ome_tiffs_with_the_size_of_a_pixel(tmp_path, shape):
    path = tmp_path / "a.tif"
    pixels = np.random.default_rng(0).integers(0, 70000, shape).astype(np.uint32)
    with TiledTiffWriter(path, shape, np.uint32, spacing_um=(0.5, 0.25)) as writer:
        writer.add(pixels)
        writer.finish()
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        assert [level.shape[:2] for level in tiff.series[0].levels] == [(600, 550), (300, 275)]
        assert np.array_equal(tiff.asarray(), pixels)
        assert 'PhysicalSizeX="0.25"' in (tiff.ome_metadata or "")
    image = open_tiled(path, above=0)
    assert image is not None
    with image:
        assert image.spacing_um == pytest.approx((0.5, 0.25))
