"""What a person reads in Prefect's UI: a report of each run, and the catalogue as a table.

Names and counts of tables may stand here; rows' values and secrets never do. Publishing runs beside the
work: if Prefect's API is gone, a warning says so and the backup counts all the same.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from blocks.errors import WorldError
from blocks.stores import Store
from flows import verification_report
from flows.beside import beside, logger, worth_asking
from flows.catalogue import Backup, Copy
from flows.catalogues import read_all
from flows.core.errors import BackupError
from flows.core.manifest import Manifest
from flows.core.read_back import told_of
from flows.core.retention import retained
from flows.core.verification import Verdict
from flows.destinations import Destinations
from flows.locks import APPEND_ONLY
from flows.markdown import escaped, moment, table
from flows.outcomes import told
from flows.plan import BackupPlan
from flows.progress import human_bytes
from flows.proof import Proof

if TYPE_CHECKING:
    from flows.core.comparison import Comparison
    from flows.prune import Pruned
    from flows.scrub import Scrubbed
    from flows.sync import Synced


READ_SECONDS = 60.0  # for each store, whose backups are then left out of the table

_listeners: list[Callable[[str], None]] = []


def listen(listener: Callable[[str], None]) -> None:
    """Call `listener` with the summary of every verification, in Markdown, so that a terminal can show it."""
    _listeners.append(listener)


def publish_backup(
    plan: BackupPlan, manifest: Manifest, destinations: Destinations, warnings: Iterable[str]
) -> None:
    """Publish the report of a backup, on the destinations that hold it."""
    timings = manifest.timings
    lines = [
        f"# Backup {manifest.backup_id}",
        "",
        f"The database as it was at {moment(manifest.snapshot_at)}, {human_bytes(manifest.size_bytes)},"
        f" on {', '.join(store.location for store in destinations.live)}.",
        "",
        *(
            f"- {escaped(store.name)}: {told_of(destinations.checks.get(store.name, ()))}"
            for store in destinations.live
        ),
        "",
        *table(
            ("archive", "size", "before compression", "SHA-256"),
            [
                (a.name, human_bytes(a.size_bytes), human_bytes(a.plain_bytes), f"`{a.sha256[:16]}…`")
                for a in manifest.archives
            ],
        ),
        *table(
            ("step", "seconds"),
            [(name, f"{seconds:.1f}") for name, seconds in timings.model_dump().items()],
        ),
        f"Encrypted to {', '.join(f'`{fingerprint}`' for fingerprint in manifest.recipients)}."
        f" PostgreSQL {manifest.versions.server}, pg_dump {manifest.versions.pg_dump}."
        + (
            ""
            if manifest.globals_passwords
            else " **globals.sql holds no passwords**: the role may not read them."
        ),
        "",
        *(f"- ⚠️ {warning}" for warning in [*warnings, *destinations.warnings]),
        "",
        f"**Next:** `pgsalvo verify {plan.name} {manifest.backup_id}` proves it.",
    ]
    _publish(f"{plan.name}-backup", "\n".join(lines), f"Backup {manifest.backup_id}")


def publish_verification(plan: BackupPlan, copy: Copy, proof: Proof, at: datetime) -> None:
    """Publish the report of a verification, the verdict first."""
    for listener in _listeners:
        listener("\n".join(verification_report.summary(copy, proof, at)))
    markdown = "\n".join(verification_report.report(copy, proof, at))
    _publish(f"{plan.name}-verification", markdown, f"Verification of {copy.backup_id}")


def publish_restore(plan: BackupPlan, copy: Copy, comparison: "Comparison") -> None:
    """Publish the report of a restore into a person's own database."""
    lines = [
        f"# Restored {copy.backup_id} from {copy.store.name}",
        "",
        f"{comparison.equal_rows:,} rows of {comparison.equal_tables} tables are equal to the facts.",
        "",
        *verification_report.findings(comparison.findings),
        *verification_report.rows(comparison),
    ]
    _publish(f"{plan.name}-restore", "\n".join(lines), f"Restore of {copy.backup_id}")


def publish_prune(plan: BackupPlan, pruned: Sequence["Pruned"], dry_run: bool) -> None:
    """Publish what was deleted and what was kept, with the reasons."""
    lines = [f"# {'Would prune' if dry_run else 'Pruned'} {plan.name}", ""]
    for destination in pruned:
        lines += [
            f"## {destination.destination}",
            "",
            f"{len(destination.deleted)} backups deleted, {len(destination.kept)} kept,"
            f" {len(destination.litter)} unfinished ones and {destination.pending} broken uploads cleared.",
            *_broken_off(destination.error),
            "",
            *table(
                ("backup", "what", "why"),
                [(identifier, "deleted", "no rule keeps it") for identifier in destination.deleted]
                + [(identifier, "deleted", "never finished") for identifier in destination.litter]
                + [
                    (identifier, "kept", escaped("; ".join(why)))
                    for identifier, why in destination.kept.items()
                ],
            ),
        ]
    _publish(f"{plan.name}-prune", "\n".join(lines), f"Prune of {plan.name}")


def publish_sync(plan: BackupPlan, synced: Sequence["Synced"]) -> None:
    """Publish what was copied to which destination, and what it still lacks."""
    lines = [f"# Synced {plan.name}", ""]
    for destination in synced:
        lines += [
            f"## {destination.destination}",
            "",
            f"{len(destination.copied)} backups copied, {len(destination.lacking)} still lacking.",
            *_broken_off(destination.error),
            "",
            *table(
                ("backup", "what", "size", "from or why"),
                [
                    (
                        copied.backup_id,
                        "healed" if copied.healed else "copied",
                        human_bytes(copied.size_bytes),
                        escaped("; ".join(filter(None, (", ".join(copied.sources), copied.checked)))),
                    )
                    for copied in destination.copied
                ]
                + [
                    (identifier, "⚠️ lacking", "", escaped(why))
                    for identifier, why in destination.lacking.items()
                ],
            ),
        ]
    _publish(f"{plan.name}-sync", "\n".join(lines), f"Sync of {plan.name}")


def publish_scrub(plan: BackupPlan, scrubbed: Sequence["Scrubbed"]) -> None:
    """Publish how much was read again on each destination, and what is damaged."""
    lines = [f"# Scrubbed {plan.name}", ""]
    for destination in scrubbed:
        lines += [
            f"## {destination.destination}",
            "",
            f"{destination.read} of {destination.archives} archives read again,"
            f" {human_bytes(destination.read_bytes)}; {len(destination.damaged)} backups are damaged.",
            *_broken_off(destination.error),
            "",
            *table(
                ("backup", "what is wrong"),
                [(identifier, escaped(problem)) for identifier, problem in destination.damaged.items()],
            ),
        ]
    _publish(f"{plan.name}-scrub", "\n".join(lines), f"Scrub of {plan.name}")


def publish_catalogue(plan: BackupPlan) -> None:
    """Publish the plan's catalogue as a table, which tells what cannot be read and is left out."""
    if not worth_asking():
        return
    left_out: list[str] = []

    def leave_out(store: Store, error: WorldError) -> None:
        left_out.append(store.name)
        logger.warning("the catalogue in Prefect lacks %s: %s", store.name, told(error))

    try:
        backups = read_all(plan, leave_out, READ_SECONDS)
    except WorldError:
        return
    except BackupError as error:
        logger.warning("the catalogue is not published: %s", told(error))
        return
    lacking = f", without {' and '.join(left_out)}" if left_out else ""

    def publish() -> bool:
        rows = [
            {
                "backup": row["backup_id"],
                "size": human_bytes(int(str(row["size_bytes"]))),
                "verdict": row["verdict"] or "not verified",
                "label": row["label"],
                "on": ", ".join(marked(copy) for copy in row["copies"]),  # type: ignore[attr-defined]
                "kept because": "; ".join(row["kept_because"]),  # type: ignore[arg-type]
            }
            for row in catalogue_rows(plan, backups)
        ]
        create_table_artifact(
            table=rows, key=f"{plan.name}-catalogue", description=f"Backups of {plan.name}{lacking}"
        )
        return True

    beside("the catalogue", publish)


def catalogue_rows(plan: BackupPlan, backups: Sequence[Backup]) -> list[dict[str, object]]:
    """Return the catalogue in the shape of `pgsalvo list --json`."""
    kept: dict[str, set[str]] = {}
    for store in plan.stores:
        copies = [copy for backup in backups if (copy := backup.copy_on(store.name)) and copy.manifest]
        for identifier, reasons in retained([copy.entry for copy in copies], plan.policy_of(store)).items():
            kept.setdefault(identifier, set()).update(reasons)
        for copy in copies if store.append_only else ():
            kept.setdefault(copy.backup_id, set()).add(APPEND_ONLY)
    return [
        {
            "backup_id": backup.backup_id,
            "started_at": backup.manifest.started_at.isoformat() if backup.manifest else None,
            "size_bytes": backup.manifest.size_bytes if backup.manifest else 0,
            "label": backup.manifest.label if backup.manifest else "",
            "verdict": backup.verdict,
            "holds": sorted({hold for copy in backup.copies for hold in copy.holds}),
            "destinations": [copy.store.name for copy in backup.copies],
            "copies": [
                {
                    "destination": copy.store.name,
                    "verdict": copy.verdict,
                    "problem": copy.problem,
                    "remedy": copy.remedy,
                }
                for copy in backup.copies
            ],
            "kept_because": sorted(kept.get(backup.backup_id, set())),
            "problems": backup.problems,
        }
        for backup in backups
    ]


def marked(copy: Mapping[str, object]) -> str:
    """Return the name of a row's copy, marked if it is damaged or failed."""
    bad = copy["problem"] or copy["verdict"] == Verdict.FAILED
    return f"{copy['destination']} ✗" if bad else str(copy["destination"])


def _broken_off(error: str) -> Sequence[str]:
    """Return the lines that tell what ended a run on one destination."""
    return ("", f"⚠️ {escaped(error)}") if error else ()


def _publish(key: str, markdown: str, description: str) -> None:
    beside(
        "the report",
        lambda: create_markdown_artifact(markdown=markdown, key=key, description=description),
    )


def to_json(rows: object) -> str:
    """Return one JSON document for a program that reads stdout."""
    return json.dumps(rows, indent=2, ensure_ascii=False)
