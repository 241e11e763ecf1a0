"""What a race says in words is what its numbers say, whichever side wins, ties, or is missing."""

import itertools
import re

import pytest

from workbench.diffusion import verdict


def row(kind, *, name=None, steps=1, ms=10.0, ratio=2.0, right=0.9, walk=2.0, both=0.8):
    return {
        "name": name or f"{kind}-{steps}", "kind": kind, "steps": steps, "calls": steps, "ms": ms,
        "ratio": ratio, "all": right, "diversity": 1.0,
        "walk": {"step": 0.1, "largest": walk, "detour": 2.0},
        "edit": {"reached": 0.9, "kept": 0.85, "both": both},
    }  # fmt: skip


def result(*rows, n=400):
    return {"n": n, "edits": 200, "lanes": list(rows)}


def test_smaller_and_larger():
    assert [verdict.smaller(*pair) for pair in ((1, 2), (2, 1), (1, 1.04), (1.04, 1), (1, 1.06))] == [
        "first", "second", "tie", "tie", "first",
    ]  # fmt: skip
    # of 100, two standard errors of 0.5 against 0.5 are 0.141
    assert verdict.larger_share(0.5, 0.63, 100) == "tie"
    assert verdict.larger_share(0.5, 0.66, 100) == "second"
    assert verdict.larger_share(1.0, 0.99, 10_000) == "first"
    assert verdict.larger_share(1.0, 1.0, 2) == "tie"
    assert verdict.larger_share(1.0, 0.5, 4) == "tie"
    assert verdict.larger_share(1.0, 0.0, 4) == "first" and verdict.larger_share(0.0, 1.0, 4) == "second"


def test_the_lane_is_the_quickest_near_the_best():
    rows = [
        row("diffusion", steps=4, ms=40, ratio=3.0), row("diffusion", steps=8, ms=80, ratio=1.55),
        row("diffusion", steps=50, ms=500, ratio=1.5), row("gan", ratio=1.6),
    ]  # fmt: skip
    assert verdict.lane(result(*rows), "diffusion")["steps"] == 8
    assert verdict.overtakes(result(*rows))["steps"] == 8
    assert verdict.lane(result(*rows), "student") is None
    assert verdict.overtakes(result(*rows[:3])) is None


def test_enough_needs_both_measures_and_is_the_quickest():
    gan = row("gan", ratio=2.0, right=0.9)
    rows = [
        row("diffusion", steps=2, ratio=1.9, right=0.8), row("diffusion", steps=4, ratio=2.2, right=0.95),
        row("diffusion", steps=16, ratio=1.5, right=0.95), row("diffusion", steps=8, ratio=2.0, right=0.9),
    ]  # fmt: skip
    assert verdict.enough(result(gan, *rows))["steps"] == 8
    assert verdict.as_faithful(result(gan, *rows))["steps"] == 4
    assert verdict.most_faithful(result(gan, *rows))["steps"] == 4
    assert verdict.enough(result(gan, *rows[:2])) is None
    assert (
        verdict.enough(result(*rows)) is None is verdict.as_faithful(result(*rows))
    )  # no GAN to be as good as
    few = row("student", steps=1, ratio=1.0)
    assert verdict.enough(result(gan, few), "student") is few


def test_enough_is_what_the_sentences_call_alike():
    """A share that is lower by chance alone, a distance within five in a hundred: as good, and said so."""
    gan, other = row("gan", ratio=2.0, right=0.9), row("diffusion", ratio=2.09, right=0.89)
    assert verdict.enough(result(gan, other)) is other
    text = verdict.paragraph(result(gan, other))
    assert "do not differ beyond chance" in text and "the two are alike" in text
    assert verdict.enough(result(gan, other, n=1_000_000)) is None


def test_with_two_guidances_each_measure_has_its_own_best():
    gan = row("gan", ms=20, ratio=2.0, right=0.98)
    guided = row("diffusion", name="guided", steps=8, ms=300, ratio=1.6, right=0.999)
    plain = row("diffusion", name="plain", steps=8, ms=160, ratio=1.3, right=0.975)
    plain["settings"] = {"guidance": 1.0}
    told = result(gan, guided, plain, n=1000)
    found = verdict.figures(told)
    assert found["faithfulness"]["diffusion"] == 0.999 and found["frechet"]["diffusion"] == 1.3
    assert found["speed_ratio"] == found["speed_ratio_both"] == 8.0
    assert found["lanes"] == {"speed_ratio": "plain", "speed_ratio_both": "plain", "faithfulness": "guided",
                              "frechet": "plain"}  # fmt: skip
    text = verdict.paragraph(told)
    assert "The diffusion baseline does what the prompt says more often (98.0% and, at 8 steps, 99.9%" in text
    assert "diffusion takes 8 steps without guidance: 160 ms, 8.0 times the GAN's time. Then it is as" in text


@pytest.mark.parametrize(
    ("side", "ratio", "ms"), [(64, 5.0, 4.0), (64, 1.0, 90.0), (64, 2.0, 20.0), (32, 5.0, 4.0)]
)
def test_a_further_gan_is_held_against_ours_at_the_same_size_alone(side, ratio, ms):
    gan = {**row("gan", ms=20.0, ratio=2.0), "side": 64}
    plain = {**row("other", name="01-stylegan2", ms=ms, ratio=ratio, right=0.6), "side": side}
    text = verdict.paragraph(result(gan, plain, row("diffusion", steps=8, ms=500)))
    start = f"Beside them 01-stylegan2 takes {ms:.0f} ms"
    assert start in text and f"{ratio:.2f} times the floor" in text and "has 60.0% of its pictures" in text
    said = re.search(
        r"renders: (nearer than|farther than|as near as) the GAN in (less|more|the same) time", text
    )
    if side == 32:
        assert said is None and f"{start} at 32 px" in text and "the floor of that size" in text
    else:
        far = "nearer than" if ratio < 2 else "farther than" if ratio > 2 else "as near as"
        assert said.groups() == (far, "less" if ms < 20 else "more" if ms > 20 else "the same")
    alone = verdict.paragraph(result(plain))
    assert "Beside them" in alone and "the GAN in" not in alone


def test_figures_by_hand():
    gan, far = row("gan", ms=20, ratio=1.5), row("diffusion", steps=8, ms=500, ratio=3)
    found = verdict.figures(result(gan, far))
    assert found == {
        "speed_ratio": 25.0, "speed_ratio_both": None, "faithfulness": {"gan": 0.9, "diffusion": 0.9},
        "frechet": {"gan": 1.5, "diffusion": 3},
        "lanes": {"speed_ratio": "diffusion-8", "speed_ratio_both": None, "faithfulness": "diffusion-8",
                  "frechet": "diffusion-8"},
    }  # fmt: skip
    assert verdict.figures(result(gan, {**far, "all": 0.2}))["speed_ratio"] is None
    assert verdict.figures(result(row("gan"))) == {}


TIMES, RATIOS, SHARES = ((20.0, 300.0), (300.0, 20.0), (20.0, 20.5)), ((1.5, 3.0), (3.0, 1.5), (2.0, 2.05)), (
    (0.95, 0.7), (0.7, 0.95), (0.9, 0.91),
)  # fmt: skip


@pytest.mark.parametrize(("times", "ratios", "shares"), itertools.product(TIMES, RATIOS, SHARES))
def test_the_paragraph_is_true(times, ratios, shares):
    """Every claim is read back out of the sentences and held against the numbers."""
    gan = row("gan", ms=times[0], ratio=ratios[0], right=shares[0], walk=ratios[0], both=shares[0])
    other = row(
        "diffusion", steps=8, ms=times[1], ratio=ratios[1], right=shares[1], walk=ratios[1], both=shares[1]
    )
    text = verdict.paragraph(result(gan, other))
    tie = {"times": times == TIMES[2], "ratios": ratios == RATIOS[2], "shares": shares == SHARES[2]}

    fast = re.search(r"the (GAN|diffusion baseline) is ([\d.]+) times as fast", text)
    assert (fast is None) == tie["times"] == ("the same time." in text)
    if fast:
        assert (fast[1] == "GAN") == (times[0] < times[1])
        assert float(fast[2]) == pytest.approx(max(times) / min(times), rel=0.01)

    near = re.search(r"features the (GAN|diffusion baseline) is nearer to renders", text)
    assert (near is None) == tie["ratios"] == ("the two are alike" in text)
    if near:
        assert (near[1] == "GAN") == (ratios[0] < ratios[1])
        assert ("passes the GAN at 8 steps" in text) == (ratios[1] < ratios[0])

    says = re.search(r"The (GAN|diffusion baseline) does what the prompt says more often", text)
    assert (says is None) == tie["shares"] == ("do not differ beyond chance" in text)
    if says:
        assert (says[1] == "GAN") == (shares[0] > shares[1])

    price = re.search(
        r"as often as the GAN, diffusion takes 8 steps: \d+ ms, (the|([\d.]+) times the) GAN", text
    )
    assert (price is None) == (shares[1] < shares[0])
    if price:
        assert (price[2] is None) == tie["times"]
        assert price[2] is None or float(price[2]) == pytest.approx(times[1] / times[0], abs=0.05)
    good = price is not None and (ratios[1] < ratios[0] or tie["ratios"])
    assert good == ("Then it is as near to renders, too." in text)
    assert good != ("as near to renders as the GAN and as faithful at once" in text)

    even = re.search(r"is more even in (the GAN|diffusion)", text)
    assert (even is None) == tie["ratios"] == ("as even in both" in text)
    if even:
        assert (even[1] == "the GAN") == (ratios[0] < ratios[1])

    swap = re.search(r"stay more often in (the GAN|diffusion)", text)
    assert (swap is None) == tie["shares"] == ("no difference beyond chance" in text)
    if swap:
        assert (swap[1] == "the GAN") == (shares[0] > shares[1])


@pytest.mark.parametrize(("ms", "ratio"), itertools.product((5.0, 20.0, 50.0, 900.0), (1.0, 1.5, 2.0, 9.0)))
def test_the_students_sentence_is_true(ms, ratio):
    gan, teacher = row("gan", ms=20.0, ratio=1.5), row("diffusion", steps=16, ms=900.0, ratio=2.0)
    text = verdict.paragraph(result(gan, teacher, row("student", steps=2, ms=ms, ratio=ratio)))
    found = re.findall(
        r"(nearer than|farther than|as near as) (the GAN|its teacher at its best) "
        r"in (less|more|the same) time",
        text,
    )
    assert [who for _, who, _ in found] == ["the GAN", "its teacher at its best"]
    for (far, _, time), other in zip(found, (gan, teacher), strict=True):
        sign = {"nearer than": ratio < other["ratio"], "farther than": ratio > other["ratio"],
                "as near as": ratio == other["ratio"]}  # fmt: skip
        took = {"less": ms < other["ms"], "more": ms > other["ms"], "the same": ms == other["ms"]}
        assert sign[far] and took[time]


def test_missing_lanes_are_said_and_nothing_is_claimed_of_them():
    alone = verdict.paragraph(result(row("gan", ms=20)))
    assert alone.startswith("The GAN takes 20 ms") and "workbench diffusion train" in alone
    assert "times as fast" not in alone
    other = verdict.paragraph(result(row("diffusion", steps=4, ms=80)))
    assert "There is no GAN beside it" in other and "at 4 steps" in other
    neither = verdict.paragraph(result(row("student", steps=2), row("other")))
    assert "cannot be compared" in neither
    assert "away from renders. Quality" in neither  # the student against nobody


@pytest.mark.parametrize(("n", "few"), [(200, True), (1000, False)])
def test_few_pictures_are_called_few(n, few):
    text = verdict.paragraph(result(row("gan"), row("diffusion", steps=2), n=n))
    assert f"told by {n:,} pictures of each lane" in text and ("too few" in text) == few


def test_fewer_pictures_than_features_are_warned_of():
    told = {**result(row("gan"), n=400), "features": 448}
    assert "not more than the judge's 448 features" in verdict.paragraph(told)
    assert "features, so that" not in verdict.paragraph({**told, "n": 449})


def test_precision_and_missing_guidance_are_said():
    gan, plain = row("gan", ratio=3.0), {**row("diffusion", steps=8), "settings": {"guidance": 1.0}}
    assert "8 steps without guidance: 10 ms, the GAN's time" in verdict.paragraph(result(gan, plain))
    for each in (gan, plain):
        each["precision"] = "bf16"
    assert "of each lane, computed in bf16" in verdict.paragraph(result(gan, plain))
    plain["precision"] = "fp32"
    assert "computed in" not in verdict.paragraph(result(gan, plain))


def test_lanes_without_walks_or_edits():
    gan, other = row("gan"), row("diffusion", steps=8)
    gan["walk"] = None
    del other["edit"]
    text = verdict.paragraph(result(gan, other))
    assert "walk" not in text and "word swapped" not in text
    lines = verdict.table(result(gan, other)).splitlines()
    assert lines[2].startswith("| gan-1 | 1 | 10.0 | 2.00 | 90.0% |") and lines[2].endswith("| – |")
    assert len({line.count("|") for line in lines}) == 1
