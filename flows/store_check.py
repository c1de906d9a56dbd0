"""Whether a plan can use a store: it is probed with one small object, outside of any backup."""

import secrets
import socket

from blocks.errors import StoreForbidden, StoreLocked
from blocks.stores import Store
from flows.checks import Check, Checks, Status
from flows.core.naming import plan_prefix
from flows.locks import locked
from flows.plan import BackupPlan

PROBE = b"pgsalvo doctor"


def check_store(plan: BackupPlan, store: Store) -> Checks:
    """Write, read and list one small object, and delete it where something may be deleted."""
    name = f"store {store.name}"
    found = [Check(name, each.severity, each.message, each.remedy) for each in store.problems()]
    yield from found
    if any(check.status == "error" for check in found):
        return
    key = plan_prefix(plan.name) + _probe_name(store)
    if not (_keeps_probe(store) and store.exists(key)):  # a server may refuse to let it be written anew
        store.put(key, [PROBE], expected_bytes=len(PROBE))
    if store.read(key) != PROBE or key not in {listed.key for listed in store.list(key)}:
        yield Check(name, "error", f"{store.location} does not give back what was written to it")
    elif store.append_only:
        yield Check(name, "ok", f"{store.location}: writes, reads, lists; append-only, so nothing is deleted")
    else:
        yield _deletion(plan, store, key)


def _probe_name(store: Store) -> str:
    """Return a new name, or where the probe stays one that is always the same."""
    host = socket.gethostname()
    return f"doctor-{host}" if _keeps_probe(store) else f"doctor-{host}-{secrets.token_hex(4)}"


def _keeps_probe(store: Store) -> bool:
    return store.append_only or store.locks_objects


def _deletion(plan: BackupPlan, store: Store, key: str) -> Check:
    name = f"store {store.name}"
    try:
        store.delete(key)
    except StoreLocked as error:
        message = f"{store.location}: writes, reads, lists; what is written is {locked(error.until)}"
        if store.locks_objects:
            return Check(name, "ok", message)
        return Check(name, "warning", message, "so backups may stay longer than the plan's retention says")
    except StoreForbidden:
        remedy = 'allow it, or set prune = "separate" and prune from another host'
        status: Status = "ok" if plan.prune == "separate" else "error"
        return Check(name, status, f"{store.location}: no right to delete", remedy)
    return Check(name, "ok", f"{store.location}: writes, reads, lists, deletes")
