"""Words out of names and texts: what a camera wrote is no caption, what a person wrote is."""

import math

import pytest

from workbench.datasets.own.captions import CaptionFinder, plain, tidy, words_of_name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("black-dog_in_the_Snow (2)", "black dog in the snow"),
        ("a_dog_0001", "a dog"),
        ("germanShepherdPuppy", "german shepherd puppy"),
        ("00000-3512-a dog, in the snow", "a dog in the snow"),
        ("photo of a cat", "photo of a cat"),
        ("don't walk", "don't walk"),
        ("Фото собаки", "фото собаки"),
        ("犬", "犬"),
        ("dog_1920x1080_final_edit", "dog"),
    ],
)
def test_a_name_that_says_something_is_a_caption(name, words):
    assert words_of_name(name) == words


@pytest.mark.parametrize(
    "name",
    [
        "IMG_1234", "DSC01234", "DSCF0001", "P1010001", "PXL_20240131_120000123", "20240131_120000",
        "IMG-20240101-WA0003", "Screenshot 2024-01-01 at 10.00.00", "3f2a9b7c01", "n02106662_123", "00001",
        "WhatsApp Image 2024-01-31 at 12.00.00", "photo-1", "GOPR0042", "_", "untitled", "image (3)",
        "550e8400-e29b-41d4-a716-446655440000",
    ],
)  # fmt: skip
def test_what_a_camera_or_a_program_wrote_is_none(name):
    assert words_of_name(name) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a \t dog\r\n", "a dog"),
        ("salt &amp; pepper", "salt & pepper"),
        ("\ufeffa dog", "a dog"),
        ("a\x00dog\x07", "a dog"),
        ("Ru\u0308de", "R\u00fcde"),
        ("\n", ""),
    ],
)
def test_captions_are_written_plainly(text, expected):
    assert tidy(text) == expected and tidy(expected) == expected


def test_numbers_that_json_has_not_become_none():
    value = {"a": math.nan, "b": [1.5, math.inf], "c": {"d": -math.inf}, "e": "NaN"}
    assert plain(value) == {"a": None, "b": [1.5, None], "c": {"d": None}, "e": "NaN"}


def test_metadata_counts_for_the_folder_it_lies_in(tmp_path):
    (tmp_path / "train").mkdir()
    lines = (
        '{"file_name": "a.png", "caption": "a dog"}\n{"file_name": "gone.png", "text": "x"}\n{"text": "y"}\n'
    )
    (tmp_path / "train/metadata.jsonl").write_text(lines)
    finder = CaptionFinder(tmp_path, ["train/metadata.jsonl", "train/a.png", "a.png"], "metadata")
    assert [each.text for each in finder.find("train/a.png")] == ["a dog"] and finder.find("a.png") == []
    assert [each.where for each in finder.unclaimed({"train/a.png"})] == [
        "train/metadata.jsonl line 2: train/gone.png"
    ]
    assert [each.where for each in finder.lost] == ["train/metadata.jsonl line 3"]
