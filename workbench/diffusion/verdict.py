"""A race in words and numbers: a table, the figures that texts state, and one paragraph.

Each sentence is chosen by the numbers, so that it is true whichever side wins, where they tie, and where a
lane is missing. A result is that of `race`: {"n", "lanes": [{"name", "kind", "steps", "ms", "ratio", "all",
…}]}; ratio is the Fréchet distance over its floor (lower is better, 1 is a render), all the share of pictures
with all four factors right.
"""

from __future__ import annotations

import math
from typing import Any

from workbench.diffusion.lanes import DIFFUSION, GAN, OTHER, STUDENT

ALIKE = 1.05  # times and distances within 5 % are called the same
ENOUGH = 1000  # pictures from which on a distance says more than roughly where it lies
Row = dict[str, Any]
TIE = "tie"


def lane(result: dict[str, Any], kind: str) -> Row | None:
    """The quickest lane of a kind whose distance is within 5 % of that kind's best; None without such."""
    rows = [row for row in result["lanes"] if row["kind"] == kind]
    best = min((row["ratio"] for row in rows), default=0.0)
    return min((row for row in rows if row["ratio"] <= ALIKE * best), key=lambda row: row["ms"], default=None)


def smaller(a: float, b: float) -> str:
    """Which of two positive numbers is smaller: "first", "second" or "tie" within `ALIKE`."""
    if max(a, b) <= ALIKE * min(a, b):
        return TIE
    return "first" if a < b else "second"


def larger_share(a: float, b: float, n: int) -> str:
    """Which of two shares of n is larger, beyond two standard errors of their difference.

    One more of each kind is counted in both first (Agresti and Caffo 2000): without that, a share of 0 or 1
    has no error, and four of four would prove something.
    """
    p, q = ((share * n + 1) / (n + 2) for share in (a, b))
    error = math.sqrt((p * (1 - p) + q * (1 - q)) / (n + 2))
    if abs(p - q) <= 2 * error:
        return TIE
    return "first" if a > b else "second"


def overtakes(result: dict[str, Any], kind: str = DIFFUSION) -> Row | None:
    """The quickest lane of a kind whose distance is at most the GAN's; None without such, or without GAN."""
    gan = lane(result, GAN)
    rows = [] if gan is None else [
        row for row in result["lanes"] if row["kind"] == kind and row["ratio"] <= gan["ratio"]
    ]  # fmt: skip
    return min(rows, key=lambda row: row["ms"], default=None)


def enough(result: dict[str, Any], kind: str = DIFFUSION) -> Row | None:
    """The quickest lane of a kind that is at least as near to renders as the GAN *and* at least as faithful;
    None where none that was measured is, or without GAN. Nothing is interpolated.
    """
    gan = lane(result, GAN)
    rows = [] if gan is None else [
        row for row in result["lanes"]
        if row["kind"] == kind and row["ratio"] <= gan["ratio"] and row["all"] >= gan["all"]
    ]  # fmt: skip
    return min(rows, key=lambda row: (row["ms"], row["steps"]), default=None)


def said_steps(row: Row) -> str:
    """How a lane's steps are said: "8 steps", "1 step without guidance"."""
    plain = (row.get("settings") or {}).get("guidance") == 1
    return f"{row['steps']} step{'s' * (row['steps'] > 1)}{' without guidance' * plain}"


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """{"speed_ratio", "equal", "faithfulness": {"gan", "diffusion"}, "frechet": {…}, "best"}; {} where the
    GAN or the baseline is missing.

    faithfulness, frechet: of the baseline as `lane` picks it, at its best, whose name "best" holds.
    speed_ratio: how many times the GAN's time a baseline takes that is as good in both (`enough`, named by
    "equal"); where none is, "equal" is None and the time is that of the best.
    """
    gan, other = lane(result, GAN), lane(result, DIFFUSION)
    if gan is None or other is None:
        return {}
    equal = enough(result)
    return {
        "speed_ratio": (equal or other)["ms"] / gan["ms"],
        "equal": equal and equal["name"],
        "faithfulness": {"gan": gan["all"], "diffusion": other["all"]},
        "frechet": {"gan": gan["ratio"], "diffusion": other["ratio"]},
        "best": other["name"],
    }


def paragraph(result: dict[str, Any]) -> str:
    """What the numbers say, in a few sentences."""
    gan, other, student = (lane(result, kind) for kind in (GAN, DIFFUSION, STUDENT))
    if gan is None and other is None:
        said = ["There is no GAN and no diffusion baseline in this race, so the two cannot be compared."]
    elif gan is None:
        said = [f"{_alone('The diffusion baseline', other)} There is no GAN beside it."]
    elif other is None:
        said = [
            f"{_alone('The GAN', gan)} There is no diffusion baseline beside it: train one with `workbench "
            "diffusion train`."
        ]
    else:
        said = [_speed(gan, other), _distance(result, gan, other), _faithful(result, gan, other)]
        said.append(_equal(result, gan))
    if student is not None:
        said.append(_student(result, student, gan, other))
    if gan is not None and other is not None:
        said += [_walks(gan, other), _edits(result, gan, other)]
    said += [_other(row, gan) for row in result["lanes"] if row["kind"] == OTHER]
    few = ", too few for more than a first look" if result["n"] < ENOUGH else ""
    told = {row.get("precision") for row in result["lanes"]} - {None}
    how = f", computed in {told.pop()}" if len(told) == 1 else ""
    said.append(f"Quality is told by {result['n']:,} pictures of each lane{how}{few}.")
    return " ".join(sentence for sentence in said if sentence)


def table(result: dict[str, Any]) -> str:
    """All lanes, as Markdown."""
    head = (
        "| lane | passes | ms a picture | Fréchet ÷ floor | all four right | variety | word swapped: there | "
        "others kept | walk: largest ÷ mean step |"
    )
    lines = [head, "|---|" + "---:|" * 8]
    for row in result["lanes"]:
        walk, edit = row.get("walk"), row.get("edit") or {}
        shares = [f"{edit[name]:.0%}" if name in edit else "–" for name in ("reached", "kept")]
        cells = [
            row["name"], str(row["calls"]), f"{row['ms']:.1f}", f"{row['ratio']:.2f}", f"{row['all']:.1%}",
            f"{row['diversity']:.2f}", *shares, f"{walk['largest']:.2f}" if walk else "–",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


# ---------------------------------------------------------------- sentences


def _alone(what: str, row: Row) -> str:
    return (
        f"{what} takes {row['ms']:.0f} ms a picture at {said_steps(row)}, has {row['all']:.1%} of its "
        f"pictures right in all four factors, and is {row['ratio']:.2f} times the floor away from renders."
    )


def _speed(gan: Row, other: Row) -> str:
    start = (
        f"The GAN takes {gan['ms']:.0f} ms a picture, the diffusion baseline {other['ms']:.0f} ms at "
        f"{said_steps(other)}, the quickest that come within 5 % of its best distance"
    )
    which = smaller(gan["ms"], other["ms"])
    if which == TIE:
        return f"{start}: the same time."
    ratio = other["ms"] / gan["ms"] if which == "first" else gan["ms"] / other["ms"]
    quick = "the GAN" if which == "first" else "the diffusion baseline"
    return f"{start}: {quick} is {ratio:.1f} times as fast."


def _distance(result: dict[str, Any], gan: Row, other: Row) -> str:
    numbers = f"{gan['ratio']:.2f} and {other['ratio']:.2f} times the floor"
    which = smaller(gan["ratio"], other["ratio"])
    if which == TIE:
        return f"By Fréchet distance on the judge's features the two are alike ({numbers})."
    if which == "first":
        return (
            f"By Fréchet distance on the judge's features the GAN is nearer to renders ({numbers}), at every "
            "number of steps that was tried."
        )
    first = overtakes(result)
    return (
        "By Fréchet distance on the judge's features the diffusion baseline is nearer to renders "
        f"({numbers}); it passes the GAN at {said_steps(first)} and {first['ms']:.0f} ms."
    )


def _faithful(result: dict[str, Any], gan: Row, other: Row) -> str:
    numbers = f"{gan['all']:.1%} and {other['all']:.1%} of pictures right in all four factors"
    which = larger_share(gan["all"], other["all"], result["n"])
    if which == TIE:
        return f"In what the prompt says they do not differ beyond chance ({numbers})."
    better = "The GAN" if which == "first" else "The diffusion baseline"
    return f"{better} does what the prompt says more often ({numbers})."


def _equal(result: dict[str, Any], gan: Row) -> str:
    """What it takes the baseline to be as good as the GAN in both measures at once."""
    least = enough(result)
    if least is None:
        return "At nothing that was tried is diffusion as near to renders as the GAN and as faithful at once."
    which = smaller(gan["ms"], least["ms"])
    time = "the same time" if which == TIE else f"{least['ms'] / gan['ms']:.1f} times the GAN's time"
    return (
        "To be at least as near to renders and at least as faithful as the GAN, diffusion needs "
        f"{said_steps(least)}: {least['ms']:.0f} ms, {time}."
    )


def _student(result: dict[str, Any], student: Row, gan: Row | None, other: Row | None) -> str:
    start = (
        f"The student, distilled from the baseline, takes {student['ms']:.0f} ms at {said_steps(student)} "
        f"and is {student['ratio']:.2f} times the floor away from renders"
    )
    beside = (("the GAN", gan), ("its teacher at its best", other))
    said = [_against(student, name, row) for name, row in beside if row is not None]
    return f"{start}{': ' if said else ''}{', '.join(said)}."


def _other(row: Row, gan: Row | None) -> str:
    """A further model; its distance is held against the GAN's only where both draw pictures of one size."""
    alike = gan is None or row.get("side") == gan.get("side")
    at, its = ("", "the floor") if alike else (f" at {row['side']} px", "the floor of that size")
    start = (
        f"Beside them {row['name']} takes {row['ms']:.0f} ms{at}, has {row['all']:.1%} of its pictures right "
        f"in all four factors, and is {row['ratio']:.2f} times {its} away from renders"
    )
    return f"{start}: {_against(row, 'the GAN', gan)}." if alike and gan is not None else f"{start}."


def _against(row: Row, name: str, other: Row) -> str:
    """ "nearer than `name` in less time", and what else may be."""
    time, far = smaller(row["ms"], other["ms"]), smaller(row["ratio"], other["ratio"])
    words = {"first": "less", "second": "more", TIE: "the same"}
    places = {"first": "nearer than", "second": "farther than", TIE: "as near as"}
    return f"{places[far]} {name} in {words[time]} time"


def _walks(gan: Row, other: Row) -> str:
    if not gan.get("walk") or not other.get("walk"):
        return ""
    a, b = gan["walk"]["largest"], other["walk"]["largest"]
    which, numbers = smaller(a, b), "its largest step is {:.1f} times the mean one, {:.1f} for {}"
    if which == TIE:
        return (
            f"A walk from one noise to another is as even in both (largest ÷ mean step {a:.1f} and {b:.1f})."
        )
    if which == "first":
        return (
            f"A walk from one noise to another is more even in the GAN ({numbers.format(a, b, 'diffusion')})."
        )
    return f"A walk from one noise to another is more even in diffusion ({numbers.format(b, a, 'the GAN')})."


def _edits(result: dict[str, Any], gan: Row, other: Row) -> str:
    if not gan.get("edit") or not other.get("edit"):
        return ""
    a, b = gan["edit"]["both"], other["edit"]["both"]
    numbers = f"{a:.0%} and {b:.0%}"
    start = "With one word swapped and the seed kept, the new word comes true and the other factors stay"
    which = larger_share(a, b, result["edits"])
    if which == TIE:
        return f"{start} in {numbers} of cases: no difference beyond chance."
    return f"{start} more often in {'the GAN' if which == 'first' else 'diffusion'} ({numbers})."
