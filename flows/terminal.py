"""How pgsalvo speaks on a terminal: tables and progress on stderr or stdout, one line for an error."""

import logging
from typing import Any

from prefect.logging.configuration import setup_logging
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from blocks.errors import WorldError
from blocks.references import redact
from blocks.stores import Store
from flows import progress, reports
from flows.checks import Check
from flows.core.verification import Verdict
from flows.hooks import ON_TERMINAL
from flows.outcomes import told

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

SIGNS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "error": "[red]✗[/]"}
VERDICTS = {Verdict.VERIFIED: "green", Verdict.FAILED: "red", Verdict.UNVERIFIABLE: "yellow", None: "dim"}
TICK_SECONDS = 0.2
WORKERS = ("EventsWorker", "APILogWorker")  # Prefect's, which tell at the end that they are not done yet


class _Quiet(logging.Filter):
    """Lets warnings through, and errors that nobody tells of later; failures are told once, at the end."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith("prefect.pgsalvo") or getattr(record, ON_TERMINAL, False):
            return record.levelno >= logging.WARNING
        return record.levelno == logging.WARNING and not record.exc_info and record.name not in WORKERS


def quiet_prefect() -> None:
    """Keep Prefect's own log off the terminal, except its warnings."""
    setup_logging()  # a flow's start would do it later, with handlers that know no filter
    for name in ("", "prefect"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_Quiet())


def show_progress() -> None:
    """Draw a bar for every progress from now on."""
    if err.is_terminal:
        progress.listen(_draw)
    else:
        progress.listen(_announce)


def show_reports() -> None:
    """Print the summary of every verification from now on."""
    reports.listen(lambda markdown: err.print(Markdown(markdown), soft_wrap=False))


def say_error(message: str, hint: str = "") -> None:
    """Print an error in one line, and what to do about it in another."""
    err.print(f"[red]error:[/] {escape(redact(' '.join(message.split())))}")
    if hint:
        err.print(f"[yellow]HINT:[/] {escape(redact(hint))}")


def warn_of_store(store: Store, error: WorldError) -> None:
    """Tell that what follows lacks a destination's backups."""
    err.print(f"[yellow]warning:[/] the store {escape(store.name)} is left out: {escape(told(error))}")
    if error.hint:
        err.print(f"[yellow]HINT:[/] {escape(redact(error.hint))}")


def check_line(check: Check) -> str:
    line = f"{SIGNS[check.status]} {escape(check.name)}: {escape(redact(check.message))}"
    return (
        f"{line}\n    [dim]→ {escape(redact(check.remedy))}[/]"
        if check.remedy and check.status != "ok"
        else line
    )


def catalogue_table(plan: str, rows: list[dict[str, Any]], sizes: dict[str, str]) -> Table:
    """Return the catalogue as a person reads it, newest first, also in a terminal of 80 columns."""
    table = _table(
        f"Backups of {plan}", "backup", "size", "verdict", "on", "kept because", whole=("size", "on")
    )
    for row in rows:
        verdict = row["verdict"]
        label = [f"[italic]{escape(row['label'])}[/]"] if row["label"] else []
        table.add_row(
            row["backup_id"],
            sizes[row["backup_id"]],
            f"[{VERDICTS[verdict]}]{verdict or 'not verified'}[/]",
            "\n".join(reports.marked(copy) for copy in row["copies"]),
            "\n".join([*label, *map(escape, row["kept_because"])]),
        )
    return table


def problem_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong with which copy and what to do about it, two lines each."""
    wrong = [(row["backup_id"], copy) for row in rows for copy in row["copies"] if copy["problem"]]
    return [
        line
        for identifier, copy in wrong
        for line in (
            f"{SIGNS['error']} {identifier} on {escape(copy['destination'])}: {escape(copy['problem'])}",
            f"    [dim]→ {escape(copy['remedy'] or 'keep it until you know why; verify another')}[/]",
        )
    ]


def _announce(shown: progress.Progress) -> None:
    err.print(f"{shown.title} …", markup=False)


def _draw(shown: progress.Progress) -> None:
    import threading

    threading.Thread(target=_draw_until_done, args=(shown,), daemon=True).start()


def _draw_until_done(shown: progress.Progress) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[done]}"),
        TimeElapsedColumn(),
    )
    with RichProgress(*columns, console=err, transient=False) as bars:
        task: TaskID = bars.add_task(f"{escape(shown.title):<8}", total=100.0, done="")
        while not shown.ended.wait(TICK_SECONDS):
            bars.update(task, completed=shown.percent, done=shown.done_text)
        bars.update(task, completed=shown.percent, done=shown.done_text)


def prune_table(pruned: list[Any], dry_run: bool) -> Table:
    """Return what was deleted and kept on each destination, with the reasons."""
    table = _table("Would prune" if dry_run else "Pruned", "on", "backup", "what", "why")
    for destination in pruned:
        for identifier, reasons in destination.kept.items():
            table.add_row(destination.destination, identifier, "[green]kept[/]", escape("; ".join(reasons)))
        for identifier in destination.deleted:
            table.add_row(destination.destination, identifier, "[red]deleted[/]", "no rule keeps it")
        for identifier in destination.litter:
            table.add_row(destination.destination, identifier, "[red]deleted[/]", "never finished")
        if destination.error:
            table.add_row(destination.destination, "", "[red]broken off[/]", escape(destination.error))
        for count, what in ((destination.pending, "uploads"), (destination.records, "records of scrubs")):
            if count:
                why = "never finished" if what == "uploads" else "newer ones tell the same"
                table.add_row(destination.destination, f"{count} {what}", "[red]deleted[/]", why)
        if not (destination.kept or destination.deleted or destination.litter or destination.error):
            table.add_row(destination.destination, "", "[dim]no backup is there[/]", "")
    return table


def sync_table(synced: list[Any]) -> Table:
    """Return what each destination got and from where."""
    table = _table("Synced", "on", "backup", "what", "from or why")
    for destination in synced:
        for copied in destination.copied:
            what = "[green]healed[/]" if copied.healed else "[green]copied[/]"
            table.add_row(destination.destination, copied.backup_id, what, escape(", ".join(copied.sources)))
        for identifier, why in destination.lacking.items():
            table.add_row(destination.destination, identifier, "[red]lacking[/]", escape(why))
        if destination.error:
            table.add_row(destination.destination, "", "[red]not read[/]", escape(destination.error))
        elif not destination.copied and not destination.lacking:
            table.add_row(destination.destination, "", "[dim]nothing is lacking[/]", "")
    return table


def scrub_table(scrubbed: list[Any]) -> Table:
    """Return how much was read again on each destination, and what is wrong there."""
    table = _table("Scrubbed", "on", "archives read", "size", "what is wrong")
    for destination in scrubbed:
        wrong = [f"{identifier}: {problem}" for identifier, problem in destination.damaged.items()]
        wrong += [destination.error] if destination.error else []
        table.add_row(
            destination.destination,
            f"{destination.read} of {destination.archives}",
            progress.human_bytes(destination.read_bytes),
            f"[red]{escape(chr(10).join(wrong))}[/]" if wrong else "[green]nothing[/]",
        )
    return table


def _table(title: str, *columns: str, whole: tuple[str, ...] = ()) -> Table:
    """Return a table without rows; backups' ids, and what else is to stay whole, are never broken in two."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("backup", *whole))
    return table
