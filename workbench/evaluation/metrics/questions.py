"""Faithfulness by questions: a CLIP is asked, zero-shot, which of a few answers a picture shows.

"A photo of a black dog" against its alternatives, for any set whose captions name the answers. Radford et al.
2021, Sec. 3.1.4: each answer is the mean of its prompts' embeddings. Letters: N pictures, A answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.datasets.world import captions
from workbench.errors import WorkbenchError
from workbench.evaluation.metrics.measuring import stated
from workbench.evaluation.metrics.record import Measurement, share_error
from workbench.evaluation.metrics.sources import Batch, Facts, digest
from workbench.models.clip_io import Clip


@dataclass(frozen=True, kw_only=True)
class Question:
    """answers: name -> phrases that mean it, in a caption as in a prompt; templates: prompts with {} for a
    phrase. Raises WorkbenchError for fewer than two answers or a template without {}."""

    name: str
    answers: Mapping[str, Sequence[str]]
    templates: Sequence[str] = ("a photo of {}",)

    def __post_init__(self) -> None:
        if len(self.answers) < 2 or not all(self.answers.values()):
            raise WorkbenchError(
                f"The question {self.name!r} has the answers {list(self.answers)}: expected two or more, "
                "each with a phrase."
            )
        if not self.templates or any("{}" not in one for one in self.templates):
            raise WorkbenchError(
                f"The question {self.name!r} has the templates {list(self.templates)}: expected texts with "
                "{} where the phrase goes."
            )

    def named_in(self, caption: str) -> int:
        """The answer that a caption names, -1 where it names none or several. Long phrases go first, so that
        "black-and-tan" does not also say "black"."""
        left, found = caption.lower(), set()
        phrases = [(phrase.lower(), k) for k, own in enumerate(self.answers.values()) for phrase in own]
        for phrase, k in sorted(phrases, key=lambda one: -len(one[0])):
            left, times = re.subn(rf"(?<!\w){re.escape(phrase)}(?!\w)", " / ", left)
            if times:
                found.add(k)
        return found.pop() if len(found) == 1 else -1

    def prompts(self) -> list[list[str]]:
        """All prompts of each answer."""
        return [[t.format(phrase) for t in self.templates for phrase in own] for own in self.answers.values()]


_DOG = ("a photo of a {} dog", "a {} German shepherd")
_DOES = ("a photo of a dog {}", "a German shepherd {}")
WORLD = (
    Question(name="coat", answers=captions.COAT_WORDS, templates=_DOG),
    Question(name="pose", answers=captions.POSE_WORDS, templates=_DOES),
    Question(name="scene", answers=captions.SCENE_WORDS, templates=_DOES),
    Question(name="light", answers=captions.LIGHT_WORDS, templates=_DOES),
)


def read_questions(path: str | Path) -> list[Question]:
    """Questions from JSON: {"coat": {"answers": {"black": ["black"], …}, "templates": ["a {} dog"]}, …}.

    Raises WorkbenchError for another form.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        return [Question(name=name, **said) for name, said in data.items()]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, WorkbenchError):
            raise
        raise WorkbenchError(
            f'{path} holds no questions ({error}): expected JSON such as {{"coat": {{"answers": {{"black": '
            '["black"], "white": ["white"]}, "templates": ["a photo of a {} dog"]}}.'
        ) from error


class QuestionMeter:
    """state: question -> [A, A] counts, the answer that the caption (or its metadata) names by the answer
    that the CLIP gives. A picture whose caption names no single answer is not asked.
    """

    reads_captions = True

    def __init__(self, clip: Clip, questions: Sequence[Question], version: str) -> None:
        self.clip, self.questions, self.version = clip, list(questions), version
        asked = [[q.name, q.prompts()] for q in self.questions]
        self.key = f"questions {clip.name} {version} {digest(asked)}"
        self.state = {q.name: torch.zeros(len(q.answers), len(q.answers)).double() for q in self.questions}
        with torch.inference_mode():
            self._answers = [
                torch.stack([F.normalize(clip.encode_text(own).mean(0), dim=0) for own in q.prompts()])
                for q in self.questions
            ]

    @torch.inference_mode()
    def add(self, batch: Batch) -> None:
        seen = self.clip.encode_image(batch.pictures.to(self.clip.device).float() / 127.5 - 1)
        for question, answers in zip(self.questions, self._answers, strict=True):
            truth = torch.tensor(
                [truth_of(question, *one) for one in zip(batch.texts, batch.known, strict=True)]
            )
            given = (seen @ answers.T).argmax(dim=1).cpu()
            for said, named in zip(truth[truth >= 0], given[truth >= 0], strict=True):
                self.state[question.name][said, named] += 1


def truth_of(question: Question, text: str, known: Mapping[str, str]) -> int:
    """The number of the answer that a picture ought to show: by its metadata, else by its caption; -1 for
    none."""
    if known.get(question.name) in question.answers:
        return list(question.answers).index(known[question.name])
    return question.named_in(text)


def share_right(confusion: Tensor) -> float:
    """Share on the diagonal of counts [A, A]."""
    return (confusion.trace() / confusion.sum()).item()


def answered(meter: QuestionMeter, own: Facts) -> list[Measurement]:
    """The share of right answers to each question that was asked at all, with its binomial error.

    Raises WorkbenchError where no caption names any answer.
    """
    found = []
    for question in meter.questions:
        confusion = meter.state[question.name]
        n = round(confusion.sum().item())
        if n == 0:
            continue
        share = share_right(confusion)
        statement = stated(
            own, n, features=f"CLIP {meter.clip.name}", version=meter.version,
            resizer=f"bicubic to {meter.clip.image_size} px",
            settings={"answers": ", ".join(question.answers), "prompts": digest(question.prompts())},
        )  # fmt: skip
        found.append(
            Measurement(
                name=f"faithfulness by questions: {question.name}",
                value=share,
                better="higher",
                spread=share_error(share, n),
                statement=statement,
            )
        )
    if not found:
        asked = ", ".join(question.name for question in meter.questions)
        raise WorkbenchError(
            f"No caption of {own.name} names an answer to {asked}: expected phrases of the questions in "
            "them. Write questions for these captions."
        )
    return found
