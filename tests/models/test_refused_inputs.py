"""Inputs that cannot be used: a ValueError that says what was given, what is allowed and what to do."""

import pytest
import torch
from tiny_models import TEXT_DIM, discriminator_config, generator_config

from workbench.models.discriminator import Discriminator
from workbench.models.mini_clip import new_mini_clip
from workbench.models.ops import box_pyramid
from workbench.models.presets import shepherd
from workbench.models.text import TextEncoder, TwoEncoders


@pytest.fixture(scope="module")
def clip():
    return new_mini_clip(["a", "white", "dog"])


@pytest.mark.parametrize(
    ("captions", "words"),
    [
        ([], r"list of captions is empty: expected at least one text\. Pass \[''\]"),
        ("a white dog", r"one text \('a white dog'\): expected a list of texts\. Write \[caption\]"),
        (["a dog", 7], r"Caption 1 is '7', a int: expected a text\. Pass str\(caption\)"),
        ([None], r"Caption 0 is 'None', a NoneType: expected a text"),
    ],
)
def test_captions_that_are_none_are_refused_by_every_reader(clip, captions, words):
    encoder = TextEncoder.from_clip(clip)
    for read in (encoder, clip.encode_text, TwoEncoders(encoder, encoder)):
        with pytest.raises(ValueError, match=words):
            read(captions)
    assert len(encoder([""])) == 1  # a picture may be without words


@pytest.mark.parametrize("resolution", [48, 4, 0, "64", None, True])
def test_a_resolution_names_what_was_given_and_those_there_are(resolution):
    for config in (generator_config, discriminator_config):
        with pytest.raises(
            ValueError, match=f"resolution is {resolution!r}: .*power of two.*Choose 8, 16, 32"
        ):
            config(resolution=resolution)
    with pytest.raises(ValueError, match=f"resolution is {resolution!r}: expected 32, 64 or 128 for"):
        shepherd(resolution)


def test_bank_sizes_that_do_not_match_are_told_with_those_given():
    with pytest.raises(
        ValueError, match=r"kernels lacks .* \[16\], it is \{4: 1, 8: 2\}: give one for each of \[4, 8, 16\]"
    ):
        generator_config(kernels={4: 1, 8: 2})


def test_pictures_that_are_not_square_and_captions_too_few_are_refused():
    D = Discriminator(discriminator_config())
    x, t = box_pyramid(torch.randn(4, 3, 16, 16), (16, 8, 4)), torch.randn(4, TEXT_DIM)
    with pytest.raises(ValueError, match=r"a picture of 8 x 16 px: expected squares of \[16, 8, 4\] px"):
        D([x[0][:, :, :8], *x[1:]], t)
    with pytest.raises(ValueError, match="given 3 captions for 4 pictures: expected one for each"):
        D(x, [t, t[:3]])
