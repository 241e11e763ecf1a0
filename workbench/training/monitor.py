"""Reads a run's statistics as a person would, and says in words what is wrong, by what evidence, and what
helps.

It decides nothing but one thing: whether the trainer has to go back to its last good checkpoint. All its
memory is plain JSON (`state`), saved with each checkpoint, so that a resumed run says exactly what an
uninterrupted one would.
"""

from collections import deque
from dataclasses import dataclass, field

from workbench.errors import WorkbenchError
from workbench.training.config import TrainConfig

NONFINITE_IN_A_ROW = 3
MAX_ROLLBACKS = 6
# Statistics of `train_step` that are read where they are there.
SPREAD_FAKE, SPREAD_REAL = "spread.fake", "spread.real"
LOGIT_REAL, LOGIT_FAKE = "D.real", "D.fake"
LOSS_G = "G.loss"


@dataclass(frozen=True, kw_only=True)
class Remark:
    """event: short name.

    Text: the sentence; rollback: whether the trainer has to go back; facts: further fields.
    """

    event: str
    text: str
    rollback: bool = False
    facts: dict = field(default_factory=dict)


class Monitor:
    """Watches one run; call `steps` at each log, `evaluation` at each evaluation."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.state: dict = {"bad_run": 0, "said": {}, "best_ratio": None, "jumps": 0, "g_losses": []}

    def steps(self, cur_nimg: int, finite: list[bool], means: dict[str, float]) -> list[Remark]:
        """What the steps since the last log show.

        finite: one flag a step; means: statistics over these steps.
        """
        remarks = []
        if not all(finite):
            remarks.append(self._nonfinite(cur_nimg, finite))
        else:
            self.state["bad_run"] = 0
        remarks += [
            r
            for r in (
                self._collapse(cur_nimg, means),
                self._overpowering(cur_nimg, means),
                self._loss_jump(cur_nimg, means),
            )
            if r is not None
        ]
        return remarks

    def evaluation(self, cur_nimg: int, ratio: float, diversity: float | None) -> list[Remark]:
        """What an evaluation shows.

        ratio: Fréchet distance / floor; diversity: spread over z / the renders'.
        """
        remarks = []
        best = self.state["best_ratio"]
        if best is not None and ratio > 2.0 * best:
            self.state["jumps"] += 1
            back = self.state["jumps"] >= 2
            what = (
                "This is the second time in a row, so the run goes back to its best checkpoint with half "
                "the learning rate."
                if back
                else "If the next evaluation says the same, the run goes back to its best checkpoint."
            )
            remarks.append(
                Remark(
                    event="frechet-jump",
                    rollback=back,
                    text=f"The Fréchet distance is {ratio:.1f} times its floor; the best so far was "
                    f"{best:.1f} times. {what}",
                )
            )
        else:
            self.state["jumps"] = 0
        self.state["best_ratio"] = ratio if best is None else min(best, ratio)
        if (
            diversity is not None
            and diversity < 0.4
            and cur_nimg >= 20_000
            and self._may_say("low-diversity", cur_nimg)
        ):
            remarks.append(
                Remark(
                    event="low-diversity",
                    text=(
                        f"Two pictures of one prompt differ {diversity:.2f} times as much as two renders do "
                        "(healthy: 0.6 or more): "
                        "z is being ignored. Raise mode_seeking_weight, or lower clip_weight and "
                        "matching_weight."
                    ),
                )
            )
        return remarks

    def rolled_back(self) -> None:
        """Forget streaks that belong to the part taken back."""
        self.state.update(bad_run=0, jumps=0, g_losses=[])

    def _nonfinite(self, cur_nimg: int, finite: list[bool]) -> Remark:
        longest = run = self.state["bad_run"]
        for good in finite:
            run = 0 if good else run + 1
            longest = max(longest, run)
        self.state["bad_run"] = run
        count = finite.count(False)
        seen = (
            f"{count} of the last {len(finite)} steps gave a loss or gradient that is not finite and "
            "changed nothing"
        )
        if longest >= NONFINITE_IN_A_ROW:
            return Remark(
                event="nonfinite",
                rollback=True,
                facts={"steps": count},
                text=f"{seen}; {longest} of them came in a row, so the run goes back to its last good "
                "checkpoint.",
            )
        return Remark(event="nonfinite", facts={"steps": count}, text=f"{seen}. Training goes on.")

    def _collapse(self, cur_nimg: int, means: dict[str, float]) -> Remark | None:
        fake, real = means.get(SPREAD_FAKE), means.get(SPREAD_REAL)
        if (
            fake is None
            or not real
            or cur_nimg < 10_000
            or fake >= 0.25 * real
            or not self._may_say("collapse", cur_nimg)
        ):
            return None
        return Remark(
            event="collapse",
            text=(
                f"Two z of one prompt give nearly the same picture: they differ by {fake:.3f} a pixel, real "
                f"pairs by {real:.3f}. "
                "Raise mode_seeking_weight or lower clip_weight; if all pictures look alike, lower lr_G."
            ),
        )

    def _overpowering(self, cur_nimg: int, means: dict[str, float]) -> Remark | None:
        real, fake = means.get(LOGIT_REAL), means.get(LOGIT_FAKE)
        if (
            real is None
            or fake is None
            or cur_nimg < 10_000
            or real - fake < 8.0
            or not self._may_say("overpowering", cur_nimg)
        ):
            return None
        return Remark(
            event="overpowering",
            text=(
                f"D tells real from generated with ease: mean logits {real:.1f} and {fake:.1f}. G learns "
                "little from that. "
                "Raise r1_gamma, lower lr_D, or add to diffaugment."
            ),
        )

    def _loss_jump(self, cur_nimg: int, means: dict[str, float]) -> Remark | None:
        loss = means.get(LOSS_G)
        if loss is None:
            return None
        past = deque(self.state["g_losses"], maxlen=50)
        usual = sorted(abs(value) for value in past)[len(past) // 2] if len(past) >= 20 else None
        past.append(loss)
        self.state["g_losses"] = list(past)
        if usual is None or abs(loss) < 8.0 * max(usual, 0.5) or not self._may_say("loss-jump", cur_nimg):
            return None
        return Remark(
            event="loss-jump",
            text=(
                f"G's loss is {loss:.1f}; {usual:.1f} was usual. Look at the newest grid: if its colours "
                "are saturated, stop, "
                "lower lr_G and lr_D by half and resume with resume=extend."
            ),
        )

    def _may_say(self, event: str, cur_nimg: int) -> bool:
        """Each sentence at most once in a twentieth of the budget."""
        last = self.state["said"].get(event)
        if last is not None and 0 <= cur_nimg - last < self.config.images // 20:
            return False
        self.state["said"][event] = cur_nimg
        return True


def give_up(rollbacks: int, cur_nimg: int) -> WorkbenchError:
    """What is said when going back did not help."""
    return WorkbenchError(
        f"Training went back {rollbacks} times and still diverges at {cur_nimg} images: the last good "
        "checkpoint is kept. Start "
        "again with lower lr_G and lr_D (by 3), a higher r1_gamma, or precision fp32."
    )
