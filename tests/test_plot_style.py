"""The plots' colours: told apart by everybody, readable on white."""

import itertools

import numpy as np
import pytest
from PIL import Image

from workbench.images import (
    COLOURS,
    use_style,
)

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(colour):
    c = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ np.clip(rgb, 0, 1) / [0.95047, 1, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISIONS)
def test_colours_are_told_apart_by_everybody(vision):
    matrix = np.array(VISIONS[vision])
    for one, other in itertools.combinations(COLOURS.values(), 2):
        assert np.linalg.norm(lab(matrix @ linear(one)) - lab(matrix @ linear(other))) > 15, (one, other)


@pytest.mark.parametrize("name", COLOURS)
def test_colours_stand_out_from_white(name):
    assert 1.05 / (linear(COLOURS[name]) @ [0.2126, 0.7152, 0.0722] + 0.05) >= 3


def test_the_style_draws(tmp_path):
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    with mpl.rc_context():
        use_style()
        figure, axes = plt.subplots()
        lines = [axes.plot([0, 1], [k, k + 1], label=name)[0] for k, name in enumerate(COLOURS)]
        assert [line.get_color() for line in lines] == list(COLOURS.values())
        assert len({str(line._dash_pattern) for line in lines}) == len(lines)
        axes.legend()
        figure.savefig(tmp_path / "a.png")
        plt.close(figure)
    assert Image.open(tmp_path / "a.png").size == (1200, 675)
