"""The demo's story: a shop is examined, backed up, listed, proved and pruned, and the proof is shown."""

import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from prefect.client.orchestration import get_client

from deployments.demo_database import HOST, USER, DemoError, DemoServer, running_server
from deployments.demo_stage import PLAN, set_stage
from deployments.demo_terminal import (
    commands,
    done,
    heading,
    out,
    pgsalvo,
    program,
    short,
    show_proof,
    wait_for_interrupt,
    working,
)
from deployments.sample_shop import DBNAME
from flows import reports, terminal
from flows.backup import back_up
from flows.catalogue import Copy, find
from flows.catalogues import read_all
from flows.core.naming import RESTORE_GUIDE_NAME
from flows.doctor import examine
from flows.plan_source import load_plan
from flows.progress import human_bytes
from flows.prune import prune
from flows.verify import verify


def show(directory: Path, *, keep: bool) -> None:
    """Run the demo; with `keep`, leave the sample database up until Ctrl-C."""
    began = time.monotonic()
    terminal.quiet_prefect()
    terminal.show_progress()
    heading("pgsalvo demo", f"a sample shop is backed up, proved and pruned, all in {short(directory)}/")
    await_prefect = start_prefect()
    with ExitStack() as stack:
        with working("starting PostgreSQL"):
            server = stack.enter_context(running_server(directory))
        is_new = set_stage(directory, server)
        look_around()
        await_prefect()
        backup_id = make_backup(new_source=is_new)
        show_list()
        prove(backup_id)
        clear_old()
        show_proof(copy_of(backup_id), time.monotonic() - began)
        if keep:
            offer_database(server)
            wait_for_interrupt()
    if not keep:
        offer_more()


def start_prefect() -> Callable[[], None]:
    """Let Prefect's own server start beside everything else; return what waits for it."""
    failures: list[Exception] = []

    def start() -> None:
        # inherited by the server: Ctrl-C has to reach the demo alone, which then still needs it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with get_client(sync_client=True) as client:
                client.hello()
        except Exception as error:
            failures.append(error)

    def wait() -> None:
        with working("waiting for Prefect's server"):
            thread.join()
        if failures:
            said = str(failures[0]).partition("\n")[0]
            raise DemoError(f"Prefect's server did not start: {said}") from failures[0]

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    return wait


def look_around() -> None:
    """Let the doctor look at everything that a backup needs."""
    heading("1 doctor", "is everything there that a backup needs, and would anybody hear of trouble?")
    checks = []
    for check in examine(load_plan(PLAN)):
        out.print("  " + terminal.check_line(check).replace("\n", "\n  "))
        checks.append(check)
    if any(check.status == "error" for check in checks):
        raise DemoError("the doctor found an error", "mend it as it says above, then start the demo again")


def make_backup(*, new_source: bool) -> str:
    """Back up, and return the backup's id."""
    heading("2 back up", "dump → compress → encrypt → store → read back → commit")
    state = back_up(PLAN, "demo", new_source, return_state=True)
    state.result()
    backup_id = state.message or ""
    done("committed", backup_id)
    return backup_id


def show_list() -> None:
    """Show the catalogue, which is read from the store alone."""
    heading("3 list", "what the store holds, and why each backup is kept")
    plan = load_plan(PLAN)
    rows = reports.catalogue_rows(plan, read_all(plan))
    sizes = {str(row["backup_id"]): human_bytes(int(str(row["size_bytes"]))) for row in rows}
    out.print(terminal.catalogue_table(PLAN, rows, sizes))


def prove(backup_id: str) -> None:
    """Restore the backup, and hold it against the facts of its own snapshot."""
    heading("4 verify", "fetch → decrypt → restore into a scratch server → compare with the dump's snapshot")
    verify(PLAN, backup_id, return_state=True).result()
    done("verified", backup_id)


def clear_old() -> None:
    """Prune by the plan's retention."""
    heading("5 prune", "delete what no rule keeps")
    for store in prune(PLAN):
        done(
            "pruned", f"{len(store.deleted)} deleted, {len(store.kept)} kept on the store {store.destination}"
        )


def copy_of(backup_id: str) -> Copy:
    """Return the backup as the plan's only store holds it."""
    return find(read_all(load_plan(PLAN)), backup_id).copies[0]


def offer_more() -> None:
    """Say what can be tried next, with the database stopped."""
    guide = Path("store", PLAN, RESTORE_GUIDE_NAME).absolute()
    commands(
        "Try next",
        [
            (f"{with_plans()} list {PLAN}", "the backups, now with their verdicts"),
            (f"{with_plans()} verify {PLAN}", "prove the latest once more"),
            (f"cat {short(guide)}", "restore by hand, without pgsalvo"),
            (f"{pgsalvo()} demo --keep", "the same, with a database to play with"),
            (f"{pgsalvo()} demo --ui", "the same in Prefect's UI"),
        ],
    )


def offer_database(server: DemoServer) -> None:
    """Say what can be tried while the database is up: losing rows, and having them again."""
    names = ("psql", "dropdb", "createdb")
    psql, dropdb, createdb = (program(server.programs.bin_directory / name) for name in names)
    password = f'"$(cat {short(server.password_file)})"'
    commands(
        "Try in another terminal",
        [
            (f"export PGHOST={HOST} PGPORT={server.port} PGUSER={USER} PGPASSWORD={password}", ""),
            (f"{psql} {DBNAME} -c 'DELETE FROM reviews'", "an accident"),  # noqa: S608 - a line to show
            (f"{dropdb} --if-exists rescued && {createdb} rescued", ""),
            (f"{with_plans()} restore {PLAN} --into dbname=rescued", ""),
            (f"{psql} rescued -c 'SELECT count(*) FROM reviews'", "nothing is lost"),  # noqa: S608
        ],
    )


def with_plans() -> str:
    return f"{pgsalvo()} --plans {short(Path('plans.toml').absolute())}"
