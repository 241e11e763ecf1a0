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


def most_faithful(result: dict[str, Any], kind: str = DIFFUSION) -> Row | None:
    """The lane of a kind with the largest share of pictures as the prompt says; of equals the quickest."""
    rows = [row for row in result["lanes"] if row["kind"] == kind]
    return max(rows, key=lambda row: (row["all"], -row["ms"]), default=None)


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


def as_faithful(result: dict[str, Any], kind: str = DIFFUSION) -> Row | None:
    """The quickest lane of a kind that does what the prompt says as often as the GAN, as far as the pictures
    of the race can tell (`larger_share`); None without such, or without GAN.
    """
    gan = lane(result, GAN)
    rows = [] if gan is None else [
        row for row in result["lanes"] if row["kind"] == kind and _as_faithful(gan, row, result["n"])
    ]  # fmt: skip
    return min(rows, key=lambda row: (row["ms"], row["steps"]), default=None)


def enough(result: dict[str, Any], kind: str = DIFFUSION) -> Row | None:
    """The quickest lane of a kind that is as near to renders as the GAN (`smaller`) *and* as faithful; None
    where none that was measured is, or without GAN. Nothing is interpolated.
    """
    gan = lane(result, GAN)
    rows = [] if gan is None else [
        row for row in result["lanes"]
        if row["kind"] == kind and smaller(gan["ratio"], row["ratio"]) != "first"
        and _as_faithful(gan, row, result["n"])
    ]  # fmt: skip
    return min(rows, key=lambda row: (row["ms"], row["steps"]), default=None)


def _as_faithful(gan: Row, row: Row, n: int) -> bool:
    return larger_share(gan["all"], row["all"], n) != "first"


def said_steps(row: Row) -> str:
    """How a lane's steps are said: "8 steps", "1 step without guidance"."""
    plain = (row.get("settings") or {}).get("guidance") == 1
    return f"{row['steps']} step{'s' * (row['steps'] > 1)}{' without guidance' * plain}"


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """{"speed_ratio", "speed_ratio_both", "faithfulness": {"gan", "diffusion"}, "frechet": {…}, "lanes"}; {}
    where the GAN or the baseline is missing.

    speed_ratio: how many times the GAN's time the quickest lane of the baseline takes that is as faithful;
    speed_ratio_both: that is as near to renders, too; None where there is none. faithfulness, frechet: of the
    baseline its best in each, which need not be one lane. lanes: the names of the baseline's four.
    """
    gan, near, true = lane(result, GAN), lane(result, DIFFUSION), most_faithful(result)
    if gan is None or near is None:
        return {}
    chosen = {"speed_ratio": as_faithful(result), "speed_ratio_both": enough(result),
              "faithfulness": true, "frechet": near}  # fmt: skip
    names = ("speed_ratio", "speed_ratio_both")
    return {
        **{name: chosen[name] and chosen[name]["ms"] / gan["ms"] for name in names},
        "faithfulness": {"gan": gan["all"], "diffusion": true["all"]},
        "frechet": {"gan": gan["ratio"], "diffusion": near["ratio"]},
        "lanes": {name: row and row["name"] for name, row in chosen.items()},
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
        said = [_speed(gan, other), _distance(result, gan, other), _faithful(result, gan)]
        said.append(_equal(result, gan))
    if student is not None:
        said.append(_student(result, student, gan, other))
    if gan is not None and other is not None:
        said += [_walks(gan, other), _edits(result, gan, other)]
    said += [_other(row, gan) for row in result["lanes"] if row["kind"] == OTHER]
    few = ", too few for more than a first look" if result["n"] < ENOUGH else ""
    if result["n"] <= result.get("features", 0):
        few += (
            f", and not more than the judge's {result['features']} features, so that no covariance is full "
            "and every distance too large"
        )
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


def _faithful(result: dict[str, Any], gan: Row) -> str:
    best, least = most_faithful(result), as_faithful(result)
    share = f"{best['all']:.1%} of pictures right in all four factors"
    numbers = f"{gan['all']:.1%} and, at {said_steps(best)}, {share}"
    which = larger_share(gan["all"], best["all"], result["n"])
    if which == TIE:
        said = f"In what the prompt says the two at their best do not differ beyond chance ({numbers})."
    else:
        better = "The GAN" if which == "first" else "The diffusion baseline"
        said = f"{better} does what the prompt says more often ({numbers})."
    price = "" if least is None else f" To do it as often as the GAN, diffusion takes {_price(gan, least)}."
    return said + price


def _equal(result: dict[str, Any], gan: Row) -> str:
    """What it takes the baseline to be as good as the GAN in both measures at once."""
    least = enough(result)
    if least is None:
        return "Nothing that was tried of diffusion is as near to renders as the GAN and as faithful at once."
    if least is as_faithful(result):
        return "Then it is as near to renders, too."
    return f"To be as near to renders, too, it takes {_price(gan, least)}."


def _price(gan: Row, row: Row) -> str:
    """ "16 steps: 430 ms, 28.0 times the GAN's time"."""
    alike = smaller(gan["ms"], row["ms"]) == TIE
    time = "the GAN's time" if alike else f"{row['ms'] / gan['ms']:.1f} times the GAN's time"
    return f"{said_steps(row)}: {row['ms']:.0f} ms, {time}"


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
