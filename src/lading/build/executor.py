"""A plan carried out: stages that do not need one another at a time, their steps one after the other."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading.build.outcome import Outcome
from lading.build.stage import Finished, StageRun
from lading.crew import TURN, Crew
from lading.errors import StoppedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future

    from lading.build.bench import Bench
    from lading.build.tree import Shelf
    from lading.manifest import Platform
    from lading.recipe.place import Script
    from lading.recipe.plan import Plan, Stage
    from lading.recipe.sources import Place


@dataclass(frozen=True, slots=True)
class Executed:
    """A plan that was carried out: what it came to, how many steps it had, and how many of them were cached."""

    outcome: Outcome
    steps: int
    cached: int


@dataclass(frozen=True)
class Executor:
    """Carries out one plan. `contexts` are the build's, the main one under the empty name; each a folder, or where its files come from.

    `platforms` are those for which images are fetched that the recipe names.
    """

    plan: Plan
    script: Script
    bench: Bench
    contexts: Mapping[str, Shelf | Place]
    platforms: Sequence[Platform]
    allow_pickle: bool = False

    def run(self) -> Executed:
        """Carry out all stages and return what the last one came to.

        The first failure stops the others and is raised, with the place of its step in the recipe. What steps had
        made by then is kept, so that the next build goes on there.
        """
        finished: dict[int, Finished] = {}
        failures: list[BaseException] = []
        try:
            self._carry_out(finished, failures)
        except StoppedError:
            reasons = [one for one in failures if not isinstance(one, StoppedError)]
            if reasons:
                raise reasons[0] from None
            raise
        last = finished[self.plan.target.index]
        command = self.plan.target.command
        outcome = Outcome(
            files=dict(sorted(last.tree.files.items())),
            command=command.arguments if command else None,
            labels=last.labels,
            base=last.base,
            created=self.bench.config.created,
        )
        every = finished.values()
        return Executed(outcome, sum(one.steps for one in every), sum(one.cached for one in every))

    def _carry_out(self, finished: dict[int, Finished], failures: list[BaseException]) -> None:
        """Carry out all stages, each as soon as those that it needs are finished."""

        def one(stage: Stage) -> None:
            try:
                finished[stage.index] = StageRun(self, stage, finished).run()
            except BaseException as error:
                # The first to come is the reason; what follows it is that the others were told to stop.
                failures.append(error)
                self.bench.stop.set()
                raise

        waiting = list(self.plan.stages)
        jobs: set[Future[None]] = set()
        with Crew(len(waiting)) as crew:
            try:
                while waiting or jobs:
                    ready = [stage for stage in waiting if stage.needs <= finished.keys()]
                    waiting = [stage for stage in waiting if stage not in ready]
                    jobs |= {crew.submit(one, stage) for stage in ready}
                    done, jobs = wait(jobs, TURN, return_when=FIRST_COMPLETED)
                    for job in done:
                        job.result()
            except BaseException:
                # Also Ctrl-C in `wait`: what is at work sees it within a fifth of a second, or is left behind.
                self.bench.stop.set()
                raise
