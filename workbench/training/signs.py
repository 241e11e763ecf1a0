"""Signs that a run goes wrong, read from its last statistics: each a sentence by what evidence, and what
helps.

Pure functions. recent: the last log lines, oldest first, as dicts of statistics; a statistic that a run does
not have says nothing.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from workbench.datasets.world.factors import CHOICES

# Statistics of `train_step` that are read, where they are there.
SPREAD_FAKE, SPREAD_REAL = "spread.fake", "spread.real"
LOGIT_REAL, LOGIT_FAKE = "D.real", "D.fake"
SIGN_REAL, SIGN_FAKE = "D.sign", "D.sign_fake"  # mean sign of the logits: +1 where all are judged real
GAP_REAL, GAP_FAKE = "D.gap_real", "D.gap_fake"  # logit under the right caption less that under a wrong one
HELD_OUT = ("D.train", "D.held_out", LOGIT_FAKE)  # logits of training, held-out and generated pictures
LOSS_G = "G.loss"
READ = (SPREAD_FAKE, SPREAD_REAL, LOGIT_REAL, LOGIT_FAKE, SIGN_REAL, SIGN_FAKE, GAP_REAL, GAP_FAKE)

LASTING = 6  # log lines that a sign has to last, where one line may be chance
PINNED = 0.98  # share of pictures that D judges rightly
NO_GAP = 0.1  # logits
CLEAR_GAP = 0.4  # logits
OVERFIT = 0.5  # of the way from training pictures down to generated ones
STALLED_EVALUATIONS, STALLED_SHARE, BETTER = 5, 0.2, 0.98


@dataclass(frozen=True, kw_only=True)
class Remark:
    """event: short name; text: the sentence; rollback: whether the trainer has to go back; facts: further
    fields of the history; among them `shows`, the statistics in which the evidence can be seen.
    """

    event: str
    text: str
    rollback: bool = False
    facts: dict = field(default_factory=dict)


def collapse(recent: list[dict[str, float]]) -> Remark | None:
    """Two z of one prompt give nearly the same picture (pixels; mean over pairs, real pairs beside)."""
    last = _means(recent[-3:])  # pairs of one line may happen to be alike
    fake, real = last.get(SPREAD_FAKE), last.get(SPREAD_REAL)
    if fake is None or not real or fake >= 0.25 * real:
        return None
    return Remark(
        event="collapse",
        facts={"shows": [SPREAD_FAKE, SPREAD_REAL]},
        text=(
            f"Two z of one prompt give nearly the same picture: they differ by {fake:.3f} a pixel, real "
            f"pairs by {real:.3f}. Raise mode_seeking_weight or lower clip_weight; if all pictures look "
            "alike, lower lr_G."
        ),
    )


def overpowering(recent: list[dict[str, float]]) -> Remark | None:
    """D is right about nearly every picture, and by far."""
    last = _means(recent[-LASTING:])
    real, fake = recent[-1].get(LOGIT_REAL), recent[-1].get(LOGIT_FAKE)
    if real is None or fake is None:
        return None
    pinned = (
        len(recent) >= LASTING
        and {SIGN_REAL, SIGN_FAKE} <= last.keys()
        and min((1 + last[SIGN_REAL]) / 2, (1 - last[SIGN_FAKE]) / 2) >= PINNED
        and last[LOGIT_REAL] - last[LOGIT_FAKE] >= 4.0
    )
    if not pinned and real - fake < 8.0:
        return None
    right = (
        f" and is right about {(1 + last[SIGN_REAL]) / 2:.0%} of real and {(1 - last[SIGN_FAKE]) / 2:.0%} of "
        "generated pictures"
        if pinned
        else ""
    )
    return Remark(
        event="overpowering",
        facts={"shows": [LOGIT_REAL, LOGIT_FAKE]},
        text=(
            f"D tells real from generated with ease: mean logits {real:.1f} and {fake:.1f}{right}. G learns "
            "little from that. Raise r1_gamma, lower lr_D, or add to diffaugment."
        ),
    )


def ignored_prompt(recent: list[dict[str, float]]) -> Remark | None:
    """D's logits of generated pictures are the same under right and wrong captions."""
    last = _means(recent[-LASTING:])
    if len(recent) < LASTING or GAP_FAKE not in last or last[GAP_FAKE] >= NO_GAP:
        return None
    fake, real = last[GAP_FAKE], last.get(GAP_REAL, 0.0)
    if real >= CLEAR_GAP:
        why = (
            f"D can read captions (real pictures gain {real:.2f} by their own), so G ignores the prompt. "
            "Raise clip_weight or vision_weight, or set matching_G to cooperative."
        )
    elif real < NO_GAP:
        why = (
            f"With real pictures it is the same ({real:+.2f}): nothing in the data tells D what a caption "
            "means, so G ignores the prompt. Check that captions and pictures belong together (workbench "
            "dataset check), then raise matching_weight."
        )
    else:
        return None
    return Remark(
        event="ignored-prompt",
        facts={"shows": [GAP_FAKE, GAP_REAL]},
        text=f"A generated picture's logit rises by only {fake:+.2f} from a wrong to its own caption. {why}",
    )


def at_chance(shares: dict[str, float]) -> Remark | None:
    """The judge finds in the pictures what a prompt names hardly more often than by chance."""
    if not CHOICES.keys() <= shares.keys():
        return None
    if any(shares[name] > 1 / len(values) + 0.1 for name, values in CHOICES.items()):
        return None
    said = ", ".join(f"{name} {shares[name]:.0%}" for name in CHOICES)
    return Remark(
        event="ignored-prompt",
        facts={"shows": list(CHOICES)},
        text=(
            f"The pictures show what the prompt names no more often than by chance ({said}). Check that "
            "captions and pictures belong together (workbench dataset check), or raise matching_weight and "
            "clip_weight."
        ),
    )


def overfitting(checks: list[dict[str, float]]) -> Remark | None:
    """D gives held-out real pictures the logits of generated ones (r_v of Karras et al. 2020, Eq. 1, twice).

    checks: mean logits of the last checks by the names in `HELD_OUT`, oldest first.
    """
    shares = [
        (train - held) / (train - fake)
        for train, held, fake in ((check[name] for name in HELD_OUT) for check in checks[-2:])
        if train - fake > 0.2  # nothing to tell apart before that
    ]
    if len(shares) < 2 or min(shares) < OVERFIT:
        return None
    train, held, fake = (checks[-1][name] for name in HELD_OUT)
    return Remark(
        event="overfitting",
        facts={"shows": list(HELD_OUT)},
        text=(
            f"D knows its training pictures by heart: their mean logit is {train:.2f}, that of held-out real "
            f"ones {held:.2f}, of generated ones {fake:.2f}. Add pictures, set flip, raise r1_gamma, or take "
            "the best checkpoint and stop."
        ),
    )


def stalled(evaluations: list[list[float]], images: int) -> Remark | None:
    """The Fréchet distance has not become better for long.

    evaluations: (cur_nimg, distance over its floor) since the best one, that first; images: the budget.
    """
    if len(evaluations) <= STALLED_EVALUATIONS:
        return None
    (since, best), (now, last) = evaluations[0], evaluations[-1]
    if now - since < STALLED_SHARE * images or best < 1.5:
        return None
    return Remark(
        event="stalled",
        facts={"shows": ["ratio"]},
        text=(
            f"The Fréchet distance was best at {since} images ({best:.1f} times its floor; now {last:.1f}) "
            f"and has not fallen in the {len(evaluations) - 1} evaluations since. Lower lr_G and lr_D if it "
            "swings, raise them if it stands still, or stop: more images will hardly help."
        ),
    )


def fallen_diversity(diversity: float, best: float) -> Remark | None:
    """Pictures of one prompt differ far less in the judge's view than they did at their best."""
    if diversity >= 0.6 * best:
        return None
    return Remark(
        event="collapse",
        facts={"shows": ["diversity"]},
        text=(
            f"Diversity fell to {diversity:.2f} of the renders'; it was {best:.2f}. G is collapsing: go back "
            "to an earlier checkpoint with lower lr_G, or raise mode_seeking_weight."
        ),
    )


def low_diversity(diversity: float) -> Remark | None:
    """Pictures of one prompt have hardly differed from the start."""
    if diversity >= 0.4:
        return None
    return Remark(
        event="low-diversity",
        facts={"shows": ["diversity"]},
        text=(
            f"Two pictures of one prompt differ {diversity:.2f} times as much as two renders do (healthy: "
            "0.6 or more): z is being ignored. Raise mode_seeking_weight, or lower clip_weight and "
            "matching_weight."
        ),
    )


def loss_jump(loss: float, past: list[float]) -> Remark | None:
    """G's loss is many times what it was. past: its values at the log lines before."""
    if len(past) < 20:
        return None
    usual = sorted(abs(value) for value in past)[len(past) // 2]
    if abs(loss) < 8.0 * max(usual, 0.5):
        return None
    return Remark(
        event="loss-jump",
        facts={"shows": [LOSS_G]},
        text=(
            f"G's loss is {loss:.1f}; {usual:.1f} was usual. Look at the newest grid: if its colours are "
            "saturated, stop, lower lr_G and lr_D by half and go on with them by --resume extend."
        ),
    )


def _means(lines: list[dict[str, float]]) -> dict[str, float]:
    """Means of the statistics that all lines have."""
    shared = set.intersection(*(set(line) for line in lines)) if lines else set()
    return {name: statistics.fmean(line[name] for line in lines) for name in shared}
