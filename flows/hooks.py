"""State hooks: one message to whoever the plan's alerts name, when a run failed or crashed."""

from logging import Logger, LoggerAdapter
from typing import Any

import prefect.runtime
from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging.loggers import flow_run_logger
from prefect.utilities.urls import url_for

from blocks.alerts import Alert
from blocks.errors import WorldError
from blocks.references import redact
from flows.core.errors import BackupError, Unverifiable
from flows.plan import BackupPlan
from flows.plan_source import last_loaded, load_plan

KINDS = {
    "back-up": "BACKUP",
    "verify": "VERIFY",
    "prune": "PRUNE",
    "restore": "RESTORE",
    "sync": "SYNC",
    "scrub": "SCRUB",
}
NEXT_STEPS = {
    "back-up": "pgsalvo doctor {plan} tells what is missing; then pgsalvo backup {plan}",
    "verify": "do not rely on this backup: pgsalvo list {plan} shows the last verified one",
    "prune": "nothing was lost; pgsalvo prune {plan} --dry-run shows what it would do",
    "sync": "what was copied whole counts; pgsalvo sync {plan} goes on with the rest",
    "scrub": "pgsalvo list {plan} shows what is damaged; pgsalvo sync {plan} heals it",
    "restore": "the target is not whole: drop it before you restore again",
}
ON_TERMINAL = "on_terminal"  # marks an error that a terminal shows too: it may be all that anybody sees


def alert(flow: "Flow[Any, Any]", flow_run: FlowRun, state: State) -> None:
    """Send one message about a failed or crashed run to each of the plan's alerts.

    A message that cannot be delivered is reported as such in the run's log.
    """
    plan = str((flow_run.parameters or {}).get("plan", ""))
    log = flow_run_logger(flow_run, flow)
    try:
        loaded = last_loaded(plan) or load_plan(plan)
    except Exception as error:  # a hook is an outermost place, and its own failure would be nobody's to see
        told = getattr(error, "message", type(error).__name__)
        _say_undelivered(log, f"nobody was alerted: the plan {plan} cannot be read: {told}")
        return
    message = Alert(
        kind=_kind(flow.name, state),
        plan=plan,
        step=_step(state),
        cause=cause_in_one_line(state),
        address=url_for("flow-run", obj_id=flow_run.id) or "",
        next_step=_next_step(flow.name, plan, state),
    )
    send(loaded, message, log)


def send(plan: BackupPlan, message: Alert, log: "LoggerAdapter[Logger] | Logger") -> None:
    """Send a message to each of a plan's alerts; one that cannot be delivered is an error in the log."""
    for receiver in plan.alerts:
        try:
            receiver.send(message)
        except WorldError as error:
            _say_undelivered(log, f"{error.message}; {error.hint}" if error.hint else error.message)


def own_address() -> str:
    """Return where the running flow run is seen in Prefect's UI; empty if nowhere."""
    return url_for("flow-run", obj_id=prefect.runtime.flow_run.id) or ""


def cause_in_one_line(state: State) -> str:
    """Return the first cause, scrubbed, without its hint."""
    error = _error(state)
    text = (
        error.message if isinstance(error, (BackupError, WorldError)) else state.message or str(error or "")
    )
    lines = [line.strip() for line in redact(text).splitlines() if line.strip()]
    return lines[0][:500] if lines else "unknown"


def _say_undelivered(log: "LoggerAdapter[Logger] | Logger", why: str) -> None:
    log.error("%s", redact(why), extra={ON_TERMINAL: True})


def _error(state: State) -> BaseException | None:
    try:
        result = state.result(raise_on_failure=False)
    except Exception:
        return None
    return result if isinstance(result, BaseException) else None


def _next_step(flow_name: str, plan: str, state: State) -> str:
    hint = getattr(_error(state), "hint", "")
    return redact(hint) if hint else NEXT_STEPS.get(flow_name, "").format(plan=plan)


def _step(state: State) -> str:
    """Return which step failed first, as far as the error's traceback tells."""
    error = _error(state)
    trace = error.__traceback__ if error else None
    names = []
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    known = "preflight dump encrypt upload facts checksum commit fetch open_facts restore_definitions"
    known += " restore_rows restore_rest look locked_snapshot record prune_now open_globals"
    known += " check_constraints check_indexes ask copy_archive rehash"
    found = [name for name in names if name in known.split()]
    return found[-1].replace("_", "-") if found else "start"


def _kind(flow_name: str, state: State) -> str:
    name = KINDS.get(flow_name, flow_name.upper())
    return f"{name}_UNVERIFIABLE" if isinstance(_error(state), Unverifiable) else f"{name}_FAILED"
