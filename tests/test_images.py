"""Opening photographs: every mode and size, upright, and a clear word about every broken file."""

import io
import struct
import threading
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from captioning import images
from captioning.bad_input import BadInput
from captioning.images import open_image

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F", "HSV", "La", "RGBa")
FORMATS_OF = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "TIFF": ("L", "RGB", "CMYK", "I;16", "F", "YCbCr", "RGBA"),
    "GIF": ("P", "L"),
}


def photo(size=(90, 60)):
    coarse = np.random.default_rng(7).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def distance(first, second):
    return np.abs(np.asarray(first, dtype=int) - np.asarray(second, dtype=int)).mean()


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(MODES), st.integers(1, 70), st.integers(1, 70), st.sampled_from([4, 16, 1024]))
def test_every_mode_becomes_rgb_within_the_promised_size(mode, width, height, at_most):
    image = Image.new("RGB", (width, height), (200, 30, 60)).convert("RGBA" if mode in ("RGBa", "PA") else "LA" if mode == "La" else "RGB")
    image = image.convert("L").convert(mode) if mode in ("I", "F", "I;16") else image.convert(mode)
    small = images._to_small_rgb(image, at_most)
    assert small.mode == "RGB"
    assert max(small.size) >= min(at_most, max(width, height))
    assert max(small.size) <= max(width, height)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(1, 60), st.integers(1, 60))
def test_files_of_every_mode_look_as_their_picture(draws, width, height):
    kind = draws.draw(st.sampled_from(sorted(FORMATS_OF)))
    mode = draws.draw(st.sampled_from(FORMATS_OF[kind]))
    grey = photo((width, height)).convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(np.asarray(grey).astype(np.float32) / 255)
    else:
        image = grey.convert(mode) if mode in ("1", "L", "LA", "P") else grey.convert("RGB").convert(mode)
    opened = open_image(encoded(image, kind))
    expected = grey.convert("1").convert("L") if mode == "1" else grey
    assert opened.mode == "RGB" and opened.size == (width, height)
    # CMYK and YCbCr round; nothing else may move by more than one step.
    assert distance(opened, expected.convert("RGB")) <= (3 if mode in ("CMYK", "YCbCr", "P") else 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_turns_as_pillow_does(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(photo(), kind, exif=exif)
    with Image.open(io.BytesIO(content)) as reference:
        reference.load()
        expected = ImageOps.exif_transpose(reference).convert("RGB")
    assert np.array_equal(open_image(content), expected)


def test_a_damaged_exif_block_is_no_reason_to_refuse():
    content = encoded(photo(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff broken")
    assert open_image(content).size == (90, 60)


def test_alpha_lies_on_white_whole_and_reduced():
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((255, 0, 0, 128), (0, 0, 32, 64))
    for at_most in (1024, 16):
        opened = np.asarray(open_image(encoded(image), at_most=at_most))
        middle = len(opened) // 2
        assert np.abs(opened[:, : middle - 1].astype(int) - [255, 127, 127]).max() <= 1
        assert (opened[:, middle + 1 :] == 255).all()


def test_palette_with_a_transparent_entry_lies_on_white():
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.paste(1, (4, 0, 8, 8))
    opened = np.asarray(open_image(encoded(image, transparency=0)))
    assert (opened[:, :4] == 255).all() and (opened[:, 4:] == [200, 0, 0]).all()


def test_sixteen_bits_keep_their_tones():
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    for kind in ("PNG", "TIFF"):
        grey = np.asarray(open_image(encoded(Image.fromarray(ramp), kind)))[..., 0]
        assert grey.min() == 0 and grey.max() == 255 and len(np.unique(grey)) == 256
        assert np.abs(grey - ramp / 257).max() <= 0.5


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        opened = open_image(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
        assert opened.getpixel((5, 5)) == (255, 0, 0)


def test_cmyk_photograph_keeps_its_colours():
    opened = open_image(encoded(photo().convert("CMYK"), "JPEG", quality=95))
    assert distance(opened, photo()) < 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_large_files_come_back_small_and_the_same_picture(kind):
    large = photo((900, 1500))
    opened = open_image(encoded(large, kind), at_most=200)
    assert 200 <= max(opened.size) < 400
    assert distance(opened, large.resize(opened.size, Image.Resampling.BOX)) < 2


def test_strips_leave_no_seam(monkeypatch):
    large = photo((640, 960))
    whole = open_image(encoded(large), at_most=96)
    monkeypatch.setattr(images, "STRIP_PIXELS", 640 * 30)
    assert np.array_equal(open_image(encoded(large), at_most=96), whole)


def test_a_panorama_keeps_a_usable_shorter_side():
    assert min(open_image(encoded(photo((4000, 300))), at_most=200).size) >= 50


def png_header(width, height):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(15800, 16000), (30000, 30000)])
def test_bombs_are_refused_by_us_and_by_pillow_alike(size):
    with pytest.raises(BadInput, match="250 million pixels"):
        open_image(png_header(*size))
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(png_header(*size)))


def test_bomb_limit_holds_in_threads():
    found = []

    def attempt():
        try:
            open_image(png_header(20000, 20000))
        except BadInput:
            found.append(1)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8


BROKEN = {
    "empty.jpg": (b"", "empty"),
    "text.jpg": (b"this is no picture, only words in a file", "not an image"),
    "noise.png": (bytes(range(256)) * 8, "not an image"),
    "half.jpg": (encoded(photo((300, 200)), "JPEG")[:1500], "broken or cut short"),
    "half.png": (encoded(photo((300, 200)))[:1500], "broken or cut short"),
    "half.gif": (encoded(photo((300, 200)), "GIF")[:1500], "broken or cut short"),
    "only-a-header.png": (png_header(10, 10), "broken or cut short"),
    "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 64, "HEIC is not supported"),
    "drawing.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "PostScript"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named_with_a_way_out(tmp_path, name):
    content, says = BROKEN[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        open_image(path)
    message = str(caught.value)
    assert str(path) in message and says in message and "\n" not in message and ";" in message


def test_large_jpeg_cut_short_is_noticed_when_decoded_small():
    content = encoded(photo((3000, 2000)), "JPEG")
    with pytest.raises(BadInput, match="cut short"):
        open_image(content[: len(content) // 2], at_most=300)


def test_missing_file_folder_and_odd_paths(tmp_path):
    with pytest.raises(BadInput, match="no such image file"):
        open_image(tmp_path / "nothing.jpg")
    with pytest.raises(BadInput, match="is a folder"):
        open_image(str(tmp_path))
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(BadInput, match="cannot be read"):
        open_image(tmp_path / "file" / "below.jpg")


def test_sources_of_every_kind(tmp_path):
    path = tmp_path / "a.png"
    photo().save(path)
    with open(path, "rb") as file:
        pictures = [open_image(path), open_image(str(path)), open_image(path.read_bytes()), open_image(file)]
    assert all(np.array_equal(picture, photo()) for picture in pictures)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]), st.data())
def test_damage_anywhere_gives_a_picture_or_one_line(kind, draws):
    content = bytearray(encoded(photo((40, 30)), kind))
    for _ in range(draws.draw(st.integers(1, 4))):
        content[draws.draw(st.integers(0, len(content) - 1))] = draws.draw(st.integers(0, 255))
    content = bytes(content[: draws.draw(st.integers(1, len(content)))])
    try:
        assert open_image(content).mode == "RGB"
    except BadInput as error:
        assert "\n" not in str(error)
