"""Reads a run's statistics as a person would, and says in words what is wrong, by what evidence, and what
helps.

It decides nothing but one thing: whether the trainer has to go back to its last good checkpoint. All its
memory is plain JSON (`state`), saved with each checkpoint, so that a resumed run says exactly what an
uninterrupted one would. What a sign is, `signs` says; here is when it is asked for and how often it is said.
"""

from collections.abc import Iterable

from workbench.errors import WorkbenchError
from workbench.training import signs
from workbench.training.config import TrainConfig
from workbench.training.signs import Remark

NONFINITE_IN_A_ROW = 3
MAX_ROLLBACKS = 6
_G_LOSSES = 50  # log lines that make up what is usual


def _fresh() -> dict:
    return {
        "bad_run": 0, "origin": None, "said": {}, "best_ratio": None, "jumps": 0, "g_losses": [],
        "recent": [], "checks": [], "best_diversity": None, "since_best": [],
    }  # fmt: skip


class Monitor:
    """Watches one run; call `steps` at each log, `evaluation` and `held_out` where these are measured."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.state: dict = _fresh()
        # Before that, what a sign looks for is what every run begins with.
        self.settled = min(10_000, max(2_000, config.images // 10))

    def refused(self, sentence: str, facts: dict) -> None:
        """A step was not applied: where it began, said with the next log line if it is the first in a row."""
        if self.state["origin"] is None:
            self.state["origin"] = {"text": sentence, **facts}

    def steps(self, cur_nimg: int, finite: list[bool], means: dict[str, float]) -> list[Remark]:
        """What the steps since the last log show.

        finite: one flag a step; means: statistics over these steps.
        """
        remarks = []
        if not all(finite):
            remarks.append(self._nonfinite(finite))
        else:
            self.state.update(bad_run=0, origin=None)
        seen = {name: means[name] for name in signs.READ if name in means}
        recent = self.state["recent"] = [*self.state["recent"], seen][-signs.LASTING :]
        if cur_nimg >= self.settled:
            found = [sign(recent) for sign in (signs.collapse, signs.overpowering, signs.ignored_prompt)]
            remarks += self._worth_saying(cur_nimg, found)
        if signs.LOSS_G in means:
            past = self.state["g_losses"]
            remarks += self._worth_saying(cur_nimg, [signs.loss_jump(means[signs.LOSS_G], past)])
            self.state["g_losses"] = [*past, means[signs.LOSS_G]][-_G_LOSSES:]
        return remarks

    def evaluation(
        self, cur_nimg: int, ratio: float, diversity: float | None, shares: dict[str, float] | None = None
    ) -> list[Remark]:
        """What an evaluation shows.

        ratio: Fréchet distance / floor; diversity: spread over z / the renders'; shares: how often each
        factor of a prompt came true.
        """
        remarks = self._jump(ratio)
        history = self.state["since_best"]
        better = not history or ratio < signs.BETTER * history[0][1]
        history = self.state["since_best"] = [[cur_nimg, ratio]] if better else [*history, [cur_nimg, ratio]]
        found = [signs.stalled(history, self.config.images)]
        if diversity is not None:
            best = self.state["best_diversity"]
            if cur_nimg >= self.settled and best is not None:
                found.append(signs.fallen_diversity(diversity, best))
            if cur_nimg >= 2 * self.settled:
                found.append(signs.low_diversity(diversity))
            self.state["best_diversity"] = diversity if best is None else max(best, diversity)
        if shares is not None and cur_nimg >= self.settled:
            found.append(signs.at_chance(shares))
        return remarks + self._worth_saying(cur_nimg, found)

    def held_out(self, cur_nimg: int, logits: dict[str, float | None]) -> list[Remark]:
        """What D's mean logits of training, held-out and generated pictures show (`HeldOut.logits`)."""
        if logits[signs.LOGIT_FAKE] is None:  # before the first log line
            return []
        check = {name: logits[name] for name in signs.HELD_OUT}
        self.state["checks"] = [*self.state["checks"], check][-2:]
        return self._worth_saying(cur_nimg, [signs.overfitting(self.state["checks"])])

    def last(self, name: str) -> float | None:
        """A statistic of the last log line, None before the first."""
        return self.state["recent"][-1].get(name) if self.state["recent"] else None

    def rolled_back(self) -> None:
        """Forget streaks that belong to the part taken back."""
        self.state.update(bad_run=0, origin=None, jumps=0, g_losses=[], recent=[], checks=[])

    def _nonfinite(self, finite: list[bool]) -> Remark:
        longest = run = self.state["bad_run"]
        for good in finite:
            run = 0 if good else run + 1
            longest = max(longest, run)
        origin = dict(self.state["origin"] or {})
        # a row that goes on began where it did
        self.state.update(bad_run=run, origin=self.state["origin"] if run else None)
        count = finite.count(False)
        seen = (
            f"{count} of the last {len(finite)} steps gave a loss or gradient that is not finite and "
            "changed nothing"
        )
        began = f" {origin.pop('text')}" if origin else ""
        facts = {"steps": count, **origin, "shows": ["D.loss", signs.LOSS_G]}
        if longest >= NONFINITE_IN_A_ROW:
            text = (
                f"{seen}; {longest} of them came in a row, so the run goes back to its last good checkpoint."
            )
            return Remark(event="nonfinite", rollback=True, facts=facts, text=text + began)
        return Remark(event="nonfinite", facts=facts, text=f"{seen}.{began} Training goes on.")

    def _jump(self, ratio: float) -> list[Remark]:
        """The distance is twice the best: said the first time, gone back from at the second in a row."""
        best = self.state["best_ratio"]
        self.state["best_ratio"] = ratio if best is None else min(best, ratio)
        if best is None or ratio <= 2.0 * best:
            self.state["jumps"] = 0
            return []
        self.state["jumps"] += 1
        back = self.state["jumps"] >= 2
        what = (
            "This is the second time in a row, so the run goes back to its best checkpoint with half the "
            "learning rate."
            if back
            else "If the next evaluation says the same, the run goes back to its best checkpoint."
        )
        text = (
            f"The Fréchet distance is {ratio:.1f} times its floor; the best so far was {best:.1f} times. "
            f"{what}"
        )
        return [Remark(event="frechet-jump", rollback=back, facts={"shows": ["ratio"]}, text=text)]

    def _worth_saying(self, cur_nimg: int, found: Iterable[Remark | None]) -> list[Remark]:
        """Those that are there; each kind at most once in a twentieth of the budget."""
        said, remarks = self.state["said"], []
        for remark in found:
            if remark is None:
                continue
            last = said.get(remark.event)
            if last is None or not 0 <= cur_nimg - last < self.config.images // 20:
                said[remark.event] = cur_nimg
                remarks.append(remark)
        return remarks


def replay(config: TrainConfig, lines: Iterable[dict]) -> list[tuple[int, Remark]]:
    """(cur_nimg, remark) of all that this monitor says of a recorded history.

    lines: as `read_history` gives them. Of steps that were not applied a line tells the number, not the
    order, so `rollback` is not decided here.
    """
    watch, told = Monitor(config), []
    for line in lines:
        at = line["cur_nimg"]
        if line["kind"] == "step":
            means = {name: value for name, value in line.items() if isinstance(value, float)}
            remarks = watch.steps(at, [True], means)
        elif line["kind"] == "eval":
            ratio = line["frechet"] / line["floor"]
            remarks = watch.evaluation(at, ratio, line.get("diversity"), line)
        elif line["kind"] == "held-out":
            remarks = watch.held_out(at, line)
        else:
            continue
        told += [(at, remark) for remark in remarks]
    return told


def give_up(rollbacks: int, cur_nimg: int, why: str = "") -> WorkbenchError:
    """What is said when going back did not help. why: of the last time, in a sentence."""
    return WorkbenchError(
        f"Training went back {rollbacks} times and still diverges at {cur_nimg} images: the last good "
        "checkpoint is kept. Start again with lower lr_G and lr_D (by 3), a higher r1_gamma, or precision "
        f"fp32.{' The last time: ' + why if why else ''}"
    )
