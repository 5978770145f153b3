"""Recipes: one of 500 lines and 38 stages, all of which the last one needs, is read, held against all rules, and planned."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

from lib.measure import Contender, Run, asked_runs, rounds
from lib.places import LADING, workplace
from lib.report import Report

from lading import recipe

if TYPE_CHECKING:
    from collections.abc import Callable

LINES = 500
ABOUT = """A recipe of 500 lines with 38 stages, as a program reads it in one process, and as `lading lint` reads it, start included."""
HEAD = """ARG MODEL=story
ARG TEMPLATE="{% for message in messages %}{{ message['content'] }}{% endfor %}"
"""
STAGE = """# stage {n}
FROM scratch AS s{n}
ARG TYPE=Q4_K_M
ADD hf://owner/${{MODEL}}@0123456789abcdef0123456789abcdef01234567 ${{MODEL}}
CONVERT --type=F16 ${{MODEL}} ${{MODEL}}.F16.gguf
QUANTIZE --type=${{TYPE}} \\
  ${{MODEL}}.F16.gguf ${{MODEL%-*}}.${{TYPE}}.gguf
CAT <<EOF prompt.txt
You are ${{MODEL:-a model}}.
EOF
LABEL from="${{MODEL}}" type=${{TYPE}}
CMD ["-m", "${{MODEL}}.Q4_K_M.gguf", "-c", "8192", "--chat-template", "${{TEMPLATE}}"]
"""


def text() -> str:
    """Return the recipe; its last stage takes a file from each of the others."""
    stages = (LINES - len(HEAD.splitlines()) - 1) // (len(STAGE.splitlines()) + 1)
    parts = [HEAD, *(STAGE.format(n=n) for n in range(stages)), "FROM scratch\n"]
    parts += [f"COPY --from=s{n} story.Q4_K_M.gguf {n}.gguf\n" for n in range(stages)]
    made = "".join(parts)
    return made + "# the end\n" * (LINES - len(made.splitlines()))


def timed(work: Callable[[], object], runs: int) -> list[Run]:
    """Do some work in this process, once more than is counted."""
    seen = []
    for _ in range(runs + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        seen.append(Run(wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
    return seen[1:]


def main() -> None:
    """Measure and print."""
    runs = asked_runs(__doc__, 15)
    report = Report("recipe", "a recipe of 500 lines", ABOUT)
    written = text()
    read = recipe.parse(written)

    def whole() -> None:
        parsed = recipe.parse(written)
        recipe.lint(parsed)
        recipe.plan(parsed)

    with workplace() as folder:
        file = folder / "GGUFPackerfile"
        file.write_text(written, encoding="utf-8")
        seen = {
            "parse, lint and plan": timed(whole, runs),
            "parse": timed(lambda: recipe.parse(written), runs),
            "lint": timed(lambda: recipe.lint(read), runs),
            "plan": timed(lambda: recipe.plan(read), runs),
            **rounds([Contender("lading lint", [LADING, "lint", "--quiet", str(file)])], runs),
        }
    medians = report.took(seen)
    report.figure(medians["parse, lint and plan"].cpu * 1e3, " ms of CPU", 50)
    report.finish()


if __name__ == "__main__":
    main()
