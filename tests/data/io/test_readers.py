import gzip
import struct
import warnings
import zlib

import nibabel as nib
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medseg.data.io import readers
from medseg.data.io.nifti import write_nifti
from medseg.data.io.pictures import convert_channels, count_channels
from medseg.data.io.readers import image_stem, is_image_file, read_scan, reader_for
from medseg.data.scans import as_label_map
from medseg.errors import DataError, GeometryError
from medseg.geometry import grids_agree

RNG = np.random.default_rng(0)
VOXELS = np.arange(24).reshape(2, 3, 4)
OBLIQUE = np.array([[0.0, -2, 0.3, 10], [1.5, 0, 0, -20], [0.2, 0, 3, 30], [0, 0, 0, 1]])
GRAY = RNG.integers(0, 256, (4, 5)).astype(np.uint8)
GRAY16 = RNG.integers(0, 65536, (4, 5)).astype(np.uint16)
RGB = RNG.integers(0, 256, (4, 5, 3)).astype(np.uint8)
RGB16 = RNG.integers(0, 65536, (4, 5, 3)).astype(np.uint16)
RGBA = RNG.integers(0, 256, (4, 5, 4)).astype(np.uint8)
RGBA16 = RNG.integers(0, 65536, (4, 5, 4)).astype(np.uint16)
PALETTE = RNG.integers(0, 256, (256, 3)).astype(np.uint8)


def nifti(path, voxels, affine=OBLIQUE, image_class=nib.Nifti1Image, dtype=None):
    nib.save(image_class(voxels, affine, dtype=dtype or voxels.dtype), path)
    return path


def png_chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(path, pixels, depth, color_type, *, palette=None, size=None):
    """Write a PNG according to its specification, for variants that Pillow cannot write."""
    height, width = pixels.shape[:2]
    lines = b""
    for row in pixels.reshape(height, -1):
        bits = "".join(format(int(v), f"0{depth}b") for v in row)
        bits += "0" * (-len(bits) % 8)
        lines += b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    header = struct.pack(">IIBBBBB", *(size or (width, height)), depth, color_type, 0, 0, 0)
    content = png_chunk(b"IHDR", header)
    if palette is not None:
        content += png_chunk(b"PLTE", palette.tobytes())
    content += png_chunk(b"IDAT", zlib.compress(lines)) + png_chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


def pixels_of(scan):
    """(H, W) or (H, W, C) as written."""
    return scan.array[0] if len(scan.array) == 1 else np.moveaxis(scan.array, 0, -1)


def refused(path, kind=DataError):
    """The message of the error raised for a file; it names the file."""
    with pytest.raises(DataError) as caught:
        read_scan(path)
    assert type(caught.value) is kind
    assert str(path) in str(caught.value)
    return str(caught.value)


class TestNifti:
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    @pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
    @pytest.mark.parametrize(
        "dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", ">i2", ">f4"]
    )
    def test_voxels_and_affine_of_every_type_are_read(self, dtype, image_class, suffix, tmp_path):
        scan = read_scan(nifti(tmp_path / f"a{suffix}", VOXELS.astype(dtype), image_class=image_class))
        assert (scan.kind, scan.spatial_dims, scan.grid.shape) == ("volume", 3, (2, 3, 4))
        assert scan.array.dtype.kind == np.dtype(dtype).kind
        assert np.array_equal(scan.array[0], VOXELS)
        np.testing.assert_allclose(scan.grid.affine, OBLIQUE, atol=1e-6)

    def test_slope_and_intercept_are_applied(self, tmp_path):
        path = nifti(tmp_path / "a.nii", VOXELS.astype("i2"))
        raw = bytearray(path.read_bytes())
        struct.pack_into("<ff", raw, 112, 2, 1)  # scl_slope, scl_inter
        path.write_bytes(raw)
        assert np.array_equal(read_scan(path).array[0], 2 * VOXELS + 1)

    def test_the_fourth_axis_is_channels(self, tmp_path):
        voxels = np.arange(48, dtype="i2").reshape(2, 3, 4, 2)
        scan = read_scan(nifti(tmp_path / "a.nii.gz", voxels))
        assert scan.array.shape == (2, 2, 3, 4)
        assert np.array_equal(scan.array[1], voxels[..., 1])
        assert read_scan(nifti(tmp_path / "b.nii.gz", voxels[..., :1])).array.shape == (1, 2, 3, 4)

    @pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 1, 2)])
    def test_other_numbers_of_axes_raise(self, shape, tmp_path):
        assert "expected 3 axes, or 4" in refused(nifti(tmp_path / "a.nii", np.zeros(shape, "u1")))

    @pytest.mark.parametrize("dtype", ["c8", [("R", "u1"), ("G", "u1"), ("B", "u1")]])
    def test_colors_and_complex_numbers_raise(self, dtype, tmp_path):
        assert "expected numbers" in refused(nifti(tmp_path / "a.nii", np.zeros((2, 3, 4), dtype)))

    @pytest.mark.parametrize(
        ("offset", "form", "values"),
        [
            (40, "<hhhh", (3, -2, 3, 4)),  # dim
            (40, "<hhhh", (3, 0, 3, 4)),
            (40, "<hhhh", (3, 32767, 32767, 32767)),  # 70 TB
            (40, "<hhhh", (3, 3000, 3000, 300)),
            (40, "<h", (9,)),
            (70, "<h", (77,)),  # datatype
            (108, "<f", (1e9,)),  # vox_offset
            (108, "<f", (float("nan"),)),
            (252, "<hhfff", (1, 0, 5.0, 5.0, 5.0)),  # a qform whose quaternion has no length 1
            (344, "4s", (b"abc",)),  # magic
        ],
    )
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    def test_a_damaged_header_raises(self, offset, form, values, suffix, tmp_path):
        raw = bytearray(nifti(tmp_path / "whole.nii", VOXELS.astype("i2")).read_bytes())
        struct.pack_into(form, raw, offset, *values)
        path = tmp_path / f"a{suffix}"
        path.write_bytes(gzip.compress(raw) if suffix.endswith("gz") else raw)
        refused(path)

    @pytest.mark.parametrize("value", [0.0, float("nan")])
    def test_a_singular_affine_raises(self, value, tmp_path):
        path = nifti(tmp_path / "a.nii", VOXELS.astype("i2"), np.eye(4))
        raw = bytearray(path.read_bytes())
        struct.pack_into("<f", raw, 280, value)  # srow_x[0]
        path.write_bytes(raw)
        assert "not invertible" in refused(path, GeometryError)

    def test_voxels_of_100_nanometers_are_read(self, tmp_path):
        affine = np.diag([1e-4, 1e-4, 1e-4, 1])
        scan = read_scan(nifti(tmp_path / "a.nii", VOXELS.astype("i2"), affine))
        np.testing.assert_allclose(scan.grid.spacing, 1e-4, rtol=1e-5)

    @pytest.mark.parametrize("kept", [2, 10, 200, 2000, -4, -1])
    def test_a_truncated_gzip_raises(self, kept, tmp_path):
        path = nifti(tmp_path / "a.nii.gz", RNG.integers(0, 999, (20, 20, 20)).astype("i2"))
        path.write_bytes(path.read_bytes()[:kept])
        refused(path)

    def test_a_flipped_bit_in_a_gzip_raises(self, tmp_path):
        path = nifti(tmp_path / "a.nii.gz", RNG.integers(0, 999, (20, 20, 20)).astype("i2"))
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)
        refused(path)

    @pytest.mark.parametrize("kept", [1, 100, 347, 360])
    def test_a_truncated_plain_file_raises(self, kept, tmp_path):
        path = nifti(tmp_path / "a.nii", VOXELS.astype("i2"))
        path.write_bytes(path.read_bytes()[:kept])
        refused(path)

    def test_the_wrong_compression_raises(self, tmp_path):
        plain = nifti(tmp_path / "whole.nii", VOXELS.astype("i2")).read_bytes()
        (tmp_path / "a.nii.gz").write_bytes(plain)
        (tmp_path / "a.nii").write_bytes(gzip.compress(plain))
        refused(tmp_path / "a.nii.gz")
        refused(tmp_path / "a.nii")


class TestWritingNifti:
    def header(self, code_q, code_s, *, image_class=nib.Nifti1Image, shape=(2, 3, 4)):
        image = image_class(np.zeros(shape, "i2"), None)
        image.set_sform(OBLIQUE, code_s)
        image.set_qform(np.diag([2.0, 2.5, 3, 1]), code_q)
        image.header.set_xyzt_units("mm", "sec")
        image.header["descrip"] = b"of the scanner"
        image.header["cal_max"] = 99
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"name of a patient"))
        return image

    @pytest.mark.parametrize("codes", [(1, 1), (1, 4), (2, 0), (0, 2), (0, 0), (3, 1)])
    @pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    def test_the_label_map_has_the_grid_and_codes_of_its_image(self, codes, image_class, suffix, tmp_path):
        nib.save(self.header(*codes, image_class=image_class), tmp_path / f"image{suffix}")
        scan = read_scan(tmp_path / f"image{suffix}")
        label_map = RNG.integers(0, 3, (2, 3, 4)).astype(np.uint8)
        out = tmp_path / "label.nii.gz"
        reader_for(scan.path).write_label_map(out, label_map, scan, None)
        image, label = nib.load(scan.path), nib.load(out)
        assert type(label) is image_class
        assert np.array_equal(label.affine, image.affine)
        for field in (
            "qform_code",
            "sform_code",
            "pixdim",
            "xyzt_units",
            "quatern_b",
            "qoffset_x",
            "srow_x",
            "srow_y",
        ):
            assert np.array_equal(label.header[field], image.header[field]), field
        assert label.get_data_dtype() == np.uint8
        assert not label.header.extensions
        assert label.header["cal_max"] == 0
        assert label.header["intent_code"] == 1002  # NIFTI_INTENT_LABEL
        assert b"scanner" not in bytes(label.header["descrip"].tobytes())
        again = read_scan(out)
        assert np.array_equal(as_label_map(again), label_map)
        assert grids_agree(again.grid, scan.grid)

    def test_a_singleton_axis_is_preserved(self, tmp_path):
        nib.save(self.header(1, 1, shape=(2, 3, 4, 1)), tmp_path / "image.nii.gz")
        scan = read_scan(tmp_path / "image.nii.gz")
        write_nifti(tmp_path / "label.nii.gz", np.ones((2, 3, 4), np.uint8), scan)
        assert nib.load(tmp_path / "label.nii.gz").shape == (2, 3, 4, 1)

    def test_the_label_map_of_a_multichannel_image_has_three_axes(self, tmp_path):
        nib.save(self.header(1, 1, shape=(2, 3, 4, 5)), tmp_path / "image.nii.gz")
        scan = read_scan(tmp_path / "image.nii.gz")
        write_nifti(tmp_path / "label.nii.gz", np.ones((2, 3, 4), np.uint8), scan)
        label = nib.load(tmp_path / "label.nii.gz")
        assert label.shape == (2, 3, 4)
        assert np.array_equal(label.affine, scan.grid.affine)

    def test_the_scale_of_the_image_is_not_copied_to_the_label_map(self, tmp_path):
        image = self.header(1, 1)
        image.header.set_slope_inter(2, 5)
        nib.save(image, tmp_path / "image.nii.gz")
        scan = read_scan(tmp_path / "image.nii.gz")
        for dtype in (np.uint8, np.int16, np.uint16, np.int64, np.float32):
            values = VOXELS.astype(dtype)
            write_nifti(tmp_path / "label.nii.gz", values, scan)
            assert np.array_equal(read_scan(tmp_path / "label.nii.gz").array[0], values)
            assert nib.load(tmp_path / "label.nii.gz").get_data_dtype() == dtype


class TestPictures:
    @pytest.mark.parametrize(
        ("pixels", "depth", "color_type"),
        [(GRAY, 8, 0), (GRAY16, 16, 0), (RGB, 8, 2), (RGB16, 16, 2), (RGBA, 8, 6), (RGBA16, 16, 6)],
        ids=["gray", "gray 16", "rgb", "rgb 16", "rgba", "rgba 16"],
    )
    def test_all_bits_of_a_png_are_read(self, pixels, depth, color_type, tmp_path):
        scan = read_scan(png(tmp_path / "a.png", pixels, depth, color_type))
        assert (scan.kind, scan.grid.shape, scan.grid.spacing) == ("picture", (4, 5), (1, 1))
        assert scan.array.dtype == pixels.dtype
        assert np.array_equal(pixels_of(scan), pixels[..., :3] if color_type == 6 else pixels)  # alpha

    @pytest.mark.parametrize("depth", [1, 2, 4])
    def test_values_of_a_png_with_few_bits_are_read(self, depth, tmp_path):
        pixels = GRAY % 2**depth
        for color_type, palette in ((0, None), (3, PALETTE[: 2**depth])):
            scan = read_scan(png(tmp_path / "a.png", pixels, depth, color_type, palette=palette))
            assert np.array_equal(as_label_map(scan), pixels)
            assert scan.array.dtype == np.uint8

    def test_the_alpha_of_gray_pictures_is_dropped(self, tmp_path):
        pixels = np.stack([GRAY, GRAY[::-1]], axis=-1)
        assert np.array_equal(pixels_of(read_scan(png(tmp_path / "a.png", pixels, 8, 4))), GRAY)
        assert "without the alpha channel" in refused(png(tmp_path / "b.png", pixels, 16, 4))

    def test_a_palette_is_an_index_as_label_and_a_color_as_image(self, tmp_path):
        scan = read_scan(png(tmp_path / "a.png", GRAY, 8, 3, palette=PALETTE))
        assert np.array_equal(as_label_map(scan), GRAY)
        assert count_channels(scan) == 3
        assert np.array_equal(np.moveaxis(convert_channels(scan, 3), 0, -1), PALETTE[GRAY])
        # luminance by Rec. 601
        gray = PALETTE[GRAY] @ np.array([0.299, 0.587, 0.114])
        np.testing.assert_allclose(convert_channels(scan, 1)[0], gray, rtol=1e-5)

    def test_channels_are_converted(self, tmp_path):
        gray = read_scan(png(tmp_path / "g.png", GRAY, 8, 0))
        assert count_channels(gray) == 1
        assert np.array_equal(convert_channels(gray, 3), np.stack([GRAY] * 3))
        rgba = read_scan(png(tmp_path / "a.png", RGBA, 8, 6))
        assert count_channels(rgba) == 3
        assert np.array_equal(np.moveaxis(convert_channels(rgba, 3), 0, -1), RGBA[..., :3])
        with pytest.raises(DataError, match="has 3 channels, expected 4"):
            convert_channels(rgba, 4)

    def test_channels_of_volumes_are_not_converted(self, tmp_path):
        scan = read_scan(nifti(tmp_path / "a.nii", VOXELS.astype("i2")))
        assert convert_channels(scan, 1) is scan.array
        with pytest.raises(DataError, match=r"a\.nii: has 1 channels, expected 3"):
            convert_channels(scan, 3)

    @pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG"])
    @pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("CMYK", 3)])
    def test_jpeg(self, suffix, mode, channels, tmp_path):
        smooth = np.full((16, 24, 3), (200, 120, 40), np.uint8)
        Image.fromarray(smooth).convert(mode).save(tmp_path / f"a{suffix}", format="JPEG")
        scan = read_scan(tmp_path / f"a{suffix}")
        assert scan.array.shape == (channels, 16, 24)
        if channels == 3:
            assert np.abs(scan.array[:, 8, 8] - np.array([200.0, 120, 40])).max() < 4

    @pytest.mark.parametrize("mode", ["1", "L", "RGB"])
    def test_bmp(self, mode, tmp_path):
        picture = Image.fromarray(RGB).convert(mode)
        picture.save(tmp_path / "a.bmp")
        assert np.array_equal(pixels_of(read_scan(tmp_path / "a.bmp")), np.asarray(picture))

    @pytest.mark.parametrize("kept", [5, 20, 40, -30])
    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
    def test_truncated_pictures_raise(self, suffix, kept, tmp_path):
        path = tmp_path / f"a{suffix}"
        Image.fromarray(RGB16.astype(np.uint8)).save(path)
        raw = path.read_bytes()
        path.write_bytes(raw[: len(raw) // 2] if suffix == ".tif" and kept == -30 else raw[:kept])
        refused(path)

    def test_a_truncated_16_bit_png_raises(self, tmp_path, capfd):
        path = png(tmp_path / "a.png", RGB16, 16, 2)
        path.write_bytes(path.read_bytes()[:-30])
        refused(path)
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1)])
    def test_an_absurd_size_raises(self, size, tmp_path):
        assert "too large or damaged" in refused(png(tmp_path / "a.png", GRAY, 8, 0, size=size))


class TestTiff:
    @pytest.mark.parametrize(
        "pixels",
        [GRAY, GRAY16, RGB, RGBA, RGB16, *(GRAY16.astype(t) for t in ("f4", "f8", "i4", "u4", "i2"))],
        ids=lambda p: f"{p.dtype}{p.shape}",
    )
    @pytest.mark.parametrize("compression", [None, "zlib"])
    def test_values_of_every_type_are_read(self, pixels, compression, tmp_path):
        kind = "rgb" if pixels.ndim == 3 else "minisblack"
        tifffile.imwrite(tmp_path / "a.tif", pixels, photometric=kind, compression=compression)
        scan = read_scan(tmp_path / "a.tif")
        assert scan.array.dtype == pixels.dtype
        assert np.array_equal(pixels_of(scan), pixels[..., :3] if pixels.shape[2:] == (4,) else pixels)

    @pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
    @pytest.mark.parametrize("pixels", [GRAY > 99, GRAY, GRAY16, RGB], ids=["1 bit", "gray", "gray 16", "rgb"])
    def test_compressions_without_further_packages(self, pixels, compression, tmp_path):
        Image.fromarray(pixels).save(tmp_path / "a.tiff", compression=compression)
        assert np.array_equal(pixels_of(read_scan(tmp_path / "a.tiff")), pixels)

    def test_fax_in_tiff(self, tmp_path):
        Image.fromarray(GRAY > 99).save(tmp_path / "a.tiff", compression="group4")
        assert np.array_equal(as_label_map(read_scan(tmp_path / "a.tiff")), GRAY > 99)

    def test_jpeg_in_tiff(self, tmp_path):
        smooth = np.full((16, 24, 3), (200, 120, 40), np.uint8)
        Image.fromarray(smooth).save(tmp_path / "a.tif", compression="jpeg")
        assert np.abs(pixels_of(read_scan(tmp_path / "a.tif")) - smooth.astype(int)).max() < 4

    @pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
    def test_a_palette_is_an_index_as_label_and_a_color_as_image(self, compression, tmp_path):
        picture = Image.fromarray(GRAY)
        picture.putpalette(PALETTE.tobytes())
        picture.save(tmp_path / "a.tif", compression=compression)
        scan = read_scan(tmp_path / "a.tif")
        assert np.array_equal(as_label_map(scan), GRAY)
        assert np.array_equal(np.moveaxis(convert_channels(scan, 3), 0, -1), PALETTE[GRAY])

    def test_planes_and_tiles(self, tmp_path):
        tifffile.imwrite(
            tmp_path / "a.tif", np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate"
        )
        assert np.array_equal(pixels_of(read_scan(tmp_path / "a.tif")), RGB)
        tifffile.imwrite(tmp_path / "b.tif", RGB, photometric="rgb", tile=(16, 16))
        assert np.array_equal(pixels_of(read_scan(tmp_path / "b.tif")), RGB)

    def test_several_gray_pages_are_a_volume(self, tmp_path):
        pages = np.arange(5 * 4 * 3, dtype=np.uint16).reshape(5, 4, 3)
        tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")
        scan = read_scan(tmp_path / "a.tif")
        assert (scan.kind, scan.grid.shape, scan.grid.spacing) == ("volume", (3, 4, 5), (1, 1, 1))
        assert np.array_equal(scan.array[0], pages.transpose(2, 1, 0))
        reader_for(scan.path).write_label_map(tmp_path / "out.tif", scan.array[0], scan, None)
        assert np.array_equal(tifffile.imread(tmp_path / "out.tif"), pages)

    def test_the_spacing_of_imagej_is_read(self, tmp_path):
        pages = np.zeros((3, 2, 4, 5), np.uint8)  # Z, C, Y, X
        pages[:, 1] = 9
        metadata = {"axes": "ZCYX", "spacing": 2.0, "unit": "um"}
        tifffile.imwrite(tmp_path / "a.tif", pages, imagej=True, resolution=(4, 4), metadata=metadata)
        scan = read_scan(tmp_path / "a.tif")
        assert scan.array.shape == (2, 5, 4, 3)
        assert scan.grid.spacing == pytest.approx((0.00025, 0.00025, 0.002))
        assert scan.array[1].min() == 9

    def test_pages_that_are_not_a_volume_raise(self, tmp_path):
        tifffile.imwrite(
            tmp_path / "a.tif", np.zeros((2, 3, 4, 5), np.uint8), imagej=True, metadata={"axes": "TZYX"}
        )
        assert "expected pages that are the slices of one volume" in refused(tmp_path / "a.tif")

    def test_complex_pixels_raise(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", GRAY.astype("c8"))
        assert "expected gray values or colors" in refused(tmp_path / "a.tif")


class TestWritingPictures:
    @given(values=st.lists(st.integers(0, 255), min_size=6, max_size=6), colored=st.booleans())
    @settings(max_examples=30, deadline=None)
    def test_a_written_palette_picture_has_the_same_values(self, tmp_path_factory, values, colored):
        folder = tmp_path_factory.mktemp("palette")
        label_map = np.array(values, np.uint8).reshape(2, 3)
        like = read_scan(png(folder / "a.png", label_map, 8, 0))
        colors = PALETTE if colored else None
        reader_for(like.path).write_label_map(folder / "b.png", label_map, like, colors)
        again = read_scan(folder / "b.png")
        assert np.array_equal(as_label_map(again), label_map)
        assert again.grid.shape == like.grid.shape
        if colored:
            assert np.array_equal(np.asarray(Image.open(folder / "b.png").convert("RGB")), PALETTE[label_map])

    @pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64])
    def test_values_above_255_are_written_in_16_bits(self, dtype, tmp_path):
        label_map = np.array([[0, 1, 255], [256, 1000, 65535]], dtype)
        like = read_scan(png(tmp_path / "a.png", GRAY, 8, 0))
        reader_for(like.path).write_label_map(tmp_path / "b.png", label_map, like, PALETTE)
        assert np.array_equal(as_label_map(read_scan(tmp_path / "b.png")), label_map)

    @pytest.mark.parametrize("value", [-1, 65536])
    def test_values_outside_the_range_of_png_raise(self, value, tmp_path):
        like = read_scan(png(tmp_path / "a.png", GRAY, 8, 0))
        with pytest.raises(DataError, match="expected 0 to 65535 for PNG"):
            reader_for(like.path).write_label_map(tmp_path / "b.png", np.array([[0, value]]), like, None)
        assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"<html>not found</html>", b"\x1f\x8b" + b"x" * 99, b"II*\0" + b"\xff" * 60, bytes(400)],
    ids=["empty", "byte", "html", "gzip", "tiff", "zeros"],
)
def test_files_with_other_content_raise(suffix, content, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    assert ("empty (0 bytes)" if not content else "truncated or damaged") in refused(path)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_is_read_or_raises_a_data_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    suffix = data.draw(st.sampled_from([".nii", ".nii.gz", ".png", ".tif", ".bmp", ".jpg"]))
    path = folder / f"a{suffix}"
    if "nii" in suffix:
        nifti(path, VOXELS.astype("i2"))
    else:
        Image.fromarray(RGB).save(path)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the parsers
        try:
            read_scan(path)
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017


def test_missing_files_and_unknown_formats_raise(tmp_path):
    assert "no such file" in refused(tmp_path / "a.nii")
    (tmp_path / "folder.nii").mkdir()
    assert "no DICOM files" in refused(tmp_path / "folder.nii")
    assert "unknown file format, expected one of .nii.gz, .nii, .nrrd" in refused(tmp_path / "a.xyz")


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.b.nii.gz", "a.b"), ("A.NII.GZ", "A"), ("c.d.png", "c.d"), ("e.tiff", "e"), ("f.txt", "f")],
)
def test_names(name, stem, tmp_path):
    assert image_stem(tmp_path / name) == stem
    assert is_image_file(tmp_path / name) is (stem != "f")
    assert not is_image_file(tmp_path / f".{name}")


def test_a_mask_is_written_on_the_grid_of_its_scan_or_refused(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    scan = read_scan(tmp_path / "a.png")
    mask = RGB[..., 0] > 100
    written = readers.write_mask(tmp_path / "mask.png", mask, scan)
    assert np.array_equal(np.asarray(Image.open(written)), mask.astype(np.uint8))
    with pytest.raises(DataError, match=r"a mask of a picture is written to a file that ends with .png"):
        readers.write_mask(tmp_path / "mask.nii.gz", mask, scan)
    with pytest.raises(DataError, match=r"a\.png: is the scan itself"):
        readers.write_mask(tmp_path / "a.png", mask, scan)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), RGB)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "mask.png"]
