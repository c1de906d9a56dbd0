"""What the demo plays with: the sample shop, a key pair, and a plan that a newcomer can read."""

import shutil
from pathlib import Path

from blocks import gpg_key_pair
from deployments import sample_shop
from deployments.demo_database import HOST, PASSWORD_NAME, USER, DemoServer
from deployments.demo_terminal import done, short, working

PLAN = "shop"

_PLANS_FILE = """\
# Backup plans, as `pgsalvo demo` writes them, anew each time: copy this file before you change it.
# Relative paths start where it lies. It holds no secret, only where each of them is.

[plans.shop]                           # the name is also the plan's folder on every store
schedule = "0 2 * * *"                 # once it is deployed to Prefect: every night at two,
time_zone = "UTC"                      # in this zone, in which retention's days begin too
recipients = ["keys/ops.public.asc"]   # who can read the backups: whoever has a secret half
spool_directory = "spool"              # for encrypted data on its way to the stores

[plans.shop.database]                  # or only: conninfo = "env:DATABASE_URL"
host = "{host}"
port = {port}
dbname = "{dbname}"
user = "{user}"
password = "file:{password}"       # or "env:NAME", or "aws-secret:NAME"

[[plans.shop.stores]]                  # each store gets a whole copy; have one far from this host:
name = "local"                         # kind = "s3", bucket = "…"
kind = "local"
path = "store"

[plans.shop.retention]
keep_daily = 7
keep_weekly = 4
keep_monthly = 12

[plans.shop.verify]                    # restore into a scratch server, and compare
schedule = "after-backup"
secret_key = "ops"
proof = "content"                      # of every row; "rows" only counts them

[secret_keys.ops]                      # only verify and restore need it: keep it on another host
key_file = "keys/ops.secret.asc"
"""


def set_stage(directory: Path, server: DemoServer) -> bool:
    """Make the shop, the keys and the plan unless they are there; return whether the shop is a new one."""
    is_new = not sample_shop.exists(server.connect)
    if is_new:
        _make_shop(server)
    place = f"PostgreSQL {server.programs.version} on {HOST}, port {server.port}"
    done("database", f"{place}, with a sample shop{' made just now' if is_new else ' of last time'}")
    _make_keys(directory / "keys")
    done("keys", f"{short(directory / 'keys')}/ops.public.asc and its secret half")
    _write_plan(directory / "plans.toml", server)
    done("plan", f"{short(directory / 'plans.toml')}, an example to read")
    return is_new


def _make_shop(server: DemoServer) -> None:
    with working("making a sample shop") as say:
        for what in sample_shop.make(server.connect):
            say(f"making a sample shop: {what}")


def _make_keys(directory: Path) -> None:
    """Make the key pair; both files appear at once, or none."""
    if directory.exists():
        return
    unfinished = directory.with_name("keys-unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    gpg_key_pair.new_key_pair("ops", unfinished, None)
    unfinished.rename(directory)


def _write_plan(file: Path, server: DemoServer) -> None:
    text = _PLANS_FILE.format(
        host=HOST, port=server.port, dbname=sample_shop.DBNAME, user=USER, password=PASSWORD_NAME
    )
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.rename(file)
