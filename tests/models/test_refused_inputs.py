"""Inputs that cannot be used: a ValueError that says what was given, what is allowed and what to do."""

import pytest
import torch
from tiny_models import TEXT_DIM, discriminator_config, features, generator_config
from tiny_upsampler import tiny_upsampler

from workbench.models.discriminator import Discriminator, pyramid_for
from workbench.models.generator import Generator
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
        (None, r"The captions are 'None', a NoneType: expected a list of texts"),
        (5, r"The captions are '5', a int: expected a list of texts"),
        (
            (c for c in ["a dog"]),
            r"a generator: expected a list of texts\. Write \[caption\], or list\(captions\)",
        ),
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


@pytest.mark.parametrize(
    "table", [{4: 31.9, 8: 32, 16: 32}, {4: True, 8: 32, 16: 32}, {4.0: 32, 8: 32, 16: 32}, 5]
)
def test_tables_are_never_rounded(table):
    for config in (generator_config, discriminator_config):
        with pytest.raises(ValueError, match=r"channels is .*: expected whole numbers by size"):
            config(channels=table)
    assert generator_config(channels={"4": 32, "8": 32, "16": 32}).channels[4] == 32  # as JSON has it


@pytest.mark.parametrize("sizes", [(16.9, 4.2), ("x",), None, 3, (True,)])
def test_lists_of_sizes_are_never_rounded(sizes):
    for name in ("entries", "exits"):
        with pytest.raises(ValueError, match=f"{name} is .*: expected a list of whole numbers"):
            discriminator_config(**{name: sizes})


@pytest.mark.parametrize("pace", [0, 0.0, -0.01, float("nan"), float("inf"), 10**400, True, None, "0.01"])
def test_a_mapping_pace_that_would_draw_nan_is_refused(pace):
    for config in (generator_config, tiny_upsampler):
        with pytest.raises(ValueError, match=r"mapping_lr_mul is .*: expected a finite number above 0"):
            config(mapping_lr_mul=pace)


def test_pictures_that_are_not_square_and_captions_too_few_are_refused():
    D = Discriminator(discriminator_config())
    x, t = box_pyramid(torch.randn(4, 3, 16, 16), (16, 8, 4)), torch.randn(4, TEXT_DIM)
    with pytest.raises(ValueError, match=r"a picture of 8 x 16 px: expected squares of \[16, 8, 4\] px"):
        D([x[0][:, :, :8], *x[1:]], t)
    with pytest.raises(ValueError, match="given 3 captions for 4 pictures: expected one for each"):
        D(x, [t, t[:3]])


def test_captions_of_another_width_and_none_at_all_are_refused():
    D = Discriminator(discriminator_config())
    x = box_pyramid(torch.randn(4, 3, 16, 16), (16, 8, 4))
    with pytest.raises(ValueError, match=r"an empty list of captions: .* Pass t_D=None"):
        D(x, [])
    with pytest.raises(ValueError, match=r"captions of shape \[4, 15\]: expected \[4, 16\]"):
        D(x, torch.randn(4, TEXT_DIM - 1))
    wide = features(2)
    wide.eps_txt = torch.randn(2, 9, TEXT_DIM + 1)
    with pytest.raises(ValueError, match=r"text features have the shape \[2, 9, 17\]: expected \[N, T, 16\]"):
        D.encode_text(wide)


def test_a_pyramid_that_lacks_a_level_is_refused():
    levels = box_pyramid(torch.randn(2, 3, 16, 16), (16, 8, 4))
    with pytest.raises(
        ValueError, match=r"levels of \[16, 4\] px: D's \[16, 8, 4\] px need those of \[8\] too"
    ):
        pyramid_for([levels[0], levels[2]], (16, 8, 4))
    with pytest.raises(ValueError, match=r"levels of \[\] px"):
        pyramid_for([], (16, 8, 4))


def test_noise_and_captions_that_G_was_not_built_for_are_refused():
    G = Generator(generator_config())
    with pytest.raises(ValueError, match=r"z of shape \[2, 9\]: expected \[N, 8\]\. Draw it with"):
        G(torch.randn(2, 9), features(2))
    with pytest.raises(ValueError, match=r"captions of shape \[1, 16\] for 3 rows of z: expected \[3, 16\]"):
        G(torch.randn(3, 8), features(1))


def test_styles_and_texts_that_G_would_not_use_are_refused():
    G = Generator(generator_config())
    text, ws = G.encode_text(features(2)), torch.randn(2, G.num_ws, 24)
    for wrong in (torch.randn(2, G.num_ws + 21, 24), ws[:, :4], ws[..., :23], ws[0, 0], ws[None]):
        with pytest.raises(
            ValueError, match=rf"styles of shape .*: expected w \[N, 24\] or ws \[N, {G.num_ws}, 24"
        ):
            G.synthesis(wrong, text)
    for texts in ([text] * 2, [text] * 9, []):
        with pytest.raises(
            ValueError, match=f"given {len(texts)} texts: expected 3, one for each of its sizes"
        ):
            G.synthesis(ws, texts)
    with pytest.raises(ValueError, match="was given no text"):
        G.synthesis(ws, [text, None, text])  # 8 px attends
    with pytest.raises(
        ValueError, match="given 2 captions 16 wide for 3 pictures: expected 3, or one for all"
    ):
        G.synthesis(torch.randn(3, 24), text)
    free = Generator(generator_config(text_dim=None, cross_attention={}))
    with pytest.raises(ValueError, match="was given text, but its text_dim is None"):
        free.synthesis(ws[:, : free.num_ws], text)


def test_one_caption_is_heard_by_all_pictures_and_a_size_without_attention_needs_none():
    G, w = Generator(generator_config()).eval(), torch.randn(3, 24)
    text = G.encode_text(features(1))
    one, each = G.synthesis(w, text)[0], G.synthesis(w, text.repeat_interleave(3))[0]
    torch.testing.assert_close(one, each)
    assert torch.equal(G.synthesis(w, [None, text, None])[0], one)
