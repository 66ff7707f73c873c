"""What people call runs: titles and tags, given and looked up."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import Engine, delete, insert, select

from workbench.errors import WorkbenchError
from workbench.store.run import Run, checkpoints_in, day_of, runs_folder
from workbench.store.tables import runs
from workbench.store.tables import tags as tag_table

LONGEST_TITLE = 200
LONGEST_TAG = 40
"""Characters."""
MOST_TAGS = 20
"""Of one run."""
MODEL_OF_RUN = re.compile(r"run:(\d{8}-\d{6}-[0-9a-f]{4})(?:@(\d+))?")
"""The name of a run's model: the run's id, and perhaps a step."""


class Labels:
    """The part of `Store` that names runs for people."""

    _engine: Engine
    get: Callable[[str], Run]
    set: Callable[..., bool]

    def rename(self, run_id: str, title: str) -> Run:
        """Gives a run another title; its id, by which models and links name it, stays.

        Raises:
            WorkbenchError: The title is empty, too long or has several lines.
        """
        run = self.get(run_id)
        self.set(run.id, runs.c.id == run.id, title=_short_text(title, "title", LONGEST_TITLE))
        return self.get(run.id)

    def tag(self, run_id: str, tags: Sequence[str]) -> Run:
        """Gives a run these tags, in place of those that it had.

        Raises:
            WorkbenchError: A tag is empty, too long or has several lines, or there are too many.
        """
        run = self.get(run_id)
        wanted = sorted({_short_text(tag, "tag", LONGEST_TAG) for tag in tags})
        if len(wanted) > MOST_TAGS:
            raise WorkbenchError(f"a run has at most {MOST_TAGS} tags, and {len(wanted)} are given")
        with self._engine.begin() as connection:
            connection.execute(delete(tag_table).where(tag_table.c.run_id == run.id))
            if wanted:
                rows = [{"run_id": run.id, "tag": tag} for tag in wanted]
                connection.execute(insert(tag_table), rows)
        return self.get(run.id)

    def tags(self) -> list[str]:
        """All tags that runs have, in alphabetical order."""
        with self._engine.connect() as connection:
            query = select(tag_table.c.tag).distinct().order_by(tag_table.c.tag)
            return [*connection.scalars(query)]

    def titles(self, run_ids: Iterable[str]) -> dict[str, str]:
        """What runs are called, by id: their titles, with the date where several have the same one.

        Unknown ids are left out.
        """
        named = select(runs.c.title).where(runs.c.id.in_(list(run_ids)))
        query = select(runs.c.id, runs.c.title).where(runs.c.title.in_(named))
        with self._engine.connect() as connection:
            title_of = {row.id: row.title for row in connection.execute(query)}
        often = Counter(title_of.values())
        return {
            run_id: title if often[title] == 1 else f"{title} ({day_of(run_id)})"
            for run_id, title in title_of.items()
            if run_id in run_ids
        }

    def titled(self, text: str) -> str:
        """A text in which each `run:ID` is the run's title, and `run:ID@STEP` title and step.

        The step of the newest checkpoint is left out, as is a run that is unknown.
        """
        if "run:" not in text:
            return text
        titles = self.titles({match[1] for match in MODEL_OF_RUN.finditer(text)})
        return MODEL_OF_RUN.sub(lambda match: _called(match, titles), text)


def _called(match: "re.Match[str]", titles: dict[str, str]) -> str:
    run_id, step = match.groups()
    title = titles.get(run_id)
    if title is None or step is None:
        return title or match[0]
    newest = max(checkpoints_in(runs_folder() / run_id), default=None)
    return title if int(step) == newest else f"{title}, step {int(step):,}"


def _short_text(text: str, what: str, longest: int) -> str:
    """A title or tag without the blanks around it, checked."""
    text = text.strip()
    if not text or len(text) > longest or not text.isprintable():
        raise WorkbenchError(
            f"a {what} is one line of 1 to {longest} characters, and {text[:50]!r} is not; give "
            "another"
        )
    return text
