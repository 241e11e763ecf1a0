"""The lines of Python and of the shell that repeat what the page did."""

import json
import shlex


def python_line(model: str, prompt: str, seed: int, count: int, truncation: float) -> str:
    """Python that makes the same pictures."""
    name, text = (json.dumps(value, ensure_ascii=False) for value in (model, prompt))
    return (
        "from workbench.pipeline import Pipeline\n"
        f"pipe = Pipeline.from_pretrained({name})\n"
        f"samples = pipe({text}, seed={seed}, count={count}, truncation={truncation:g})"
    )


def shell_line(model: str, prompt: str, seed: int, count: int, truncation: float) -> str:
    """The command that makes the same pictures."""
    return (
        f"workbench sample --model {shlex.quote(model)} --prompt {shlex.quote(prompt)} "
        f"--seed {seed} --count {count} --truncation {truncation:g} --out pictures"
    )
