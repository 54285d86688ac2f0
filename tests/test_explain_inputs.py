"""A user's pictures and boxes: what is read, how it is cropped, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from robustbench_snn import UsageError, model_card
from robustbench_snn.card import Preprocess
from robustbench_snn.explain import photographs
from robustbench_snn.explain.boxes import box_masks, fingerprint, mask_of, read_boxes, transform
from robustbench_snn.explain.command import main
from robustbench_snn.explain.photographs import as_input, preprocess_for, read_photograph

XML = """<annotation><size><width>{w}</width><height>{h}</height></size>{objects}</annotation>"""
BOX = (
    "<object><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def save(path, mode="RGB", size=(60, 40), colour=None, **options):
    Image.new(mode, size, colour).save(path, **options)
    return path


def test_photographs_of_any_size_become_inputs(tmp_path):
    card = model_card("qkformer-tiny.digit-scenes")
    preprocess, how = preprocess_for(card)
    assert how.startswith("shorter side resized to 32 px (bicubic), middle 32x32 px cropped")
    for size in ((640, 480), (31, 200), (1, 1), (32, 32)):
        picture = read_photograph(save(tmp_path / "a.png", size=size, colour=(255, 0, 0)))
        x = as_input(picture, preprocess)
        assert x.shape == (3, 32, 32)
        assert x[0].min() == 1.0
        assert x[1:].max() == 0.0


def test_a_card_that_states_its_crop_is_obeyed():
    preprocess, how = preprocess_for(model_card("sdt-8-512.imagenet"))
    assert preprocess == Preprocess(resize=235, crop=224)
    assert how.endswith("as the model's card says")


def test_pictures_are_turned_upright(tmp_path):
    picture = Image.new("RGB", (40, 20))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert read_photograph(tmp_path / "a.jpg").size == (20, 40)


def test_palette_and_print_colours_are_photographs_too(tmp_path):
    for name, mode in (("a.png", "P"), ("b.jpg", "CMYK")):
        assert read_photograph(save(tmp_path / name, mode)).mode == "RGB"


def test_grey_and_opaque_pictures_are_read(tmp_path):
    levels = np.array([[0, 128], [255, 7]], dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "grey.png")
    # 16 bits of the same levels, and one that lies between two of them.
    deep = levels.astype(np.uint16) * 257
    deep[1, 1] += 128
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    Image.fromarray(levels > 100).save(tmp_path / "bits.png")
    opaque = np.full((2, 2), 255, dtype=np.uint8)
    Image.fromarray(np.stack([levels, levels, levels, opaque], 2)).save(tmp_path / "rgba.png")
    Image.fromarray(np.stack([levels, opaque], 2), "LA").save(tmp_path / "la.png")
    for name in ("grey.png", "deep.png", "deep.tif", "rgba.png", "la.png"):
        picture = read_photograph(tmp_path / name)
        assert picture.mode == "RGB"
        assert np.array_equal(np.asarray(picture), np.stack([levels] * 3, 2)), name
    bits = np.asarray(read_photograph(tmp_path / "bits.png"))
    assert bits[..., 0].tolist() == [[0, 255], [255, 0]]
    opaque[0, 1] = 254
    Image.fromarray(np.stack([levels, levels, levels, opaque], 2)).save(tmp_path / "rgba.png")
    with pytest.raises(UsageError, match="transparent in 1 of 4 pixels"):
        read_photograph(tmp_path / "rgba.png")


def test_bad_pictures_are_one_sentence_each(tmp_path, monkeypatch):
    text = tmp_path / "text.jpg"
    text.write_text("this is no picture")
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    half = save(tmp_path / "half.jpg", size=(300, 300))
    half.write_bytes(half.read_bytes()[:400])
    clear = Image.new("P", (8, 8))
    clear.save(tmp_path / "clear.png", transparency=0)
    cases = {
        tmp_path / "none.jpg": "there is no such file",
        tmp_path: "is a folder: name its pictures",
        text: "is no picture that Pillow can read",
        empty: "is no picture that Pillow can read",
        half: "cannot be decoded",
        save(tmp_path / "alpha.png", "RGBA"): "is transparent in 2400 of 2400 pixels",
        tmp_path / "clear.png": "is transparent in",
        save(tmp_path / "la.png", "LA"): "is transparent in 2400 of 2400 pixels",
        save(tmp_path / "float.tif", "F"): "of which white is not known (mode F)",
        save(tmp_path / "whole.tif", "I"): "of which white is not known (mode I)",
    }
    for path, message in cases.items():
        with pytest.raises(UsageError) as caught:
            read_photograph(path)
        assert message in str(caught.value)
        assert str(path) in str(caught.value)
    monkeypatch.setattr(photographs, "LARGEST", 1000)
    with pytest.raises(UsageError, match="has 60x40 pixels, more than the 1,000 that are read"):
        read_photograph(save(tmp_path / "huge.png"))


def test_one_bad_picture_does_not_stop_a_batch(tmp_path, capsys):
    fine = save(tmp_path / "fine.png", colour=(9, 99, 199))
    words = ["--model", "sdt-tiny.digit-scenes", "--out", str(tmp_path / "over.png")]
    for path in (fine, tmp_path / "none.png", save(tmp_path / "clear.png", "RGBA")):
        words += ["--image", str(path)]
    assert main(words) == 3
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith("left out: --image ")
    assert "is no such file" in said[0]
    assert "is transparent in" in said[1]
    assert "fine.png" in (tmp_path / "over.csv").read_text()
    assert main([*words[:4], "--image", str(tmp_path / "none.png")]) == 2


def test_event_models_take_no_photographs():
    with pytest.raises(UsageError, match="takes event frames"):
        preprocess_for(model_card("sdt-2-256.cifar10-dvs"))


def annotation(folder, name, boxes, width=500, height=400):
    objects = "".join(BOX.format(*box) for box in boxes)
    (folder / f"{name}.xml").write_text(XML.format(w=width, h=height, objects=objects))


def test_boxes_follow_the_picture_through_resize_and_crop(tmp_path):
    annotation(tmp_path, "a", [(101, 51, 300, 250)])
    size, boxes = read_boxes(tmp_path / "a.xml")
    assert (size, boxes) == ((500, 400), [(100, 50, 300, 250)])
    # The same way through the same transform, drawn as a picture.
    preprocess = Preprocess(resize=256, crop=224, interpolation="bilinear")
    picture = np.zeros((400, 500, 3), dtype=np.uint8)
    picture[50:250, 100:300] = 255
    seen = as_input(Image.fromarray(picture), preprocess)[0] > 0.5
    mask = box_masks(tmp_path, ["a"], preprocess, 224, 224)[0]
    assert (seen != mask).mean() < 0.005
    assert mask.sum() == pytest.approx((200 * 256 / 400) ** 2, rel=0.02)


def test_boxes_cut_away_are_dropped_and_missing_files_are_empty(tmp_path):
    annotation(tmp_path, "val_1", [(1, 1, 10, 400), (200, 100, 260, 200)], width=1000)
    size, boxes = read_boxes(tmp_path / "val_1.xml")
    assert len(transform(size, boxes, Preprocess(256, 224))) == 0
    masks = box_masks(tmp_path, ["n01/val_1", "val_2"], Preprocess(256, 224), 224, 224)
    assert not masks.any()
    whole = transform((100, 80), [(0.0, 0.0, 100.0, 80.0)], Preprocess())
    assert mask_of(whole, 80, 100).all()
    assert len(fingerprint(tmp_path)) == 12


@pytest.mark.parametrize(
    "content", ["no xml", "<annotation></annotation>", XML.format(w=0, h=5, objects="")]
)
def test_bad_annotations_are_one_sentence(tmp_path, content):
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(
        UsageError, match=r"a\.xml' (is no CLS-LOC annotation|states an image of 0x5)"
    ):
        read_boxes(tmp_path / "a.xml")


def test_a_folder_without_annotations_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"holds no \.xml files"):
        fingerprint(tmp_path)
