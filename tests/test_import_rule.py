"""The rooms keep their doors: imports run one way, and the outside is reached from few places.

deployments → flows → flows/tasks → {blocks, flows/core}
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

READERS_OF_THE_ENVIRONMENT = {
    "flows.environment": "our own variables",
    "blocks.references": "env:NAME, which a plan refers to",
    "blocks.process": "what programs inherit",
    "blocks.container_runtime": "DOCKER_HOST and its like, which docker and podman read",
    "blocks.pgtools": "PATH, to find programs",
    "blocks.pgtools_wheels": "the user's cache, and pip's own variables",
    "blocks.postgres": "PGOPTIONS, which libpq would read",
    "blocks.stores.authorities": "REQUESTS_CA_BUNDLE, SSL_CERT_FILE and the like, which HTTP clients read",
    "blocks.stores.rclone_access": "RCLONE_CONFIG_* and the credentials and proxies of rclone's libraries",
    "blocks.stores.rsync_runs": "RSYNC_PROXY, which rsync reads",
    "flows.cli": "only sets how long Prefect may take to start",
}
WITH_PANDAS = ["flows.core.comparison", "flows.core.object_comparison", "flows.core.row_comparison"]
IMPURE = {
    "asyncio", "concurrent", "http", "io", "logging", "multiprocessing", "os", "platform", "random",
    "secrets", "shutil", "signal", "socket", "ssl", "subprocess", "sys", "tempfile", "threading", "time",
    "urllib", "uuid",
}  # fmt: skip
CLOCKS = {"now", "utcnow", "today"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    name_of(path): ast.parse(path.read_text(encoding="utf-8"))
    for room in ("blocks", "flows", "deployments")
    for path in sorted((ROOT / room).rglob("*.py"))
}


def imported(tree: ast.AST) -> set[str]:
    """Every module that is imported anywhere in the tree."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where they lead"
            package = str(node.module)
            members = [f"{package}.{alias.name}" for alias in node.names]
            found |= {member if member in MODULES else package for member in members}
    return found


def imported_at_start(tree: ast.Module) -> set[str]:
    """The modules whose import is a side effect of importing this one."""
    return {name for node in tree.body if not is_lazy(node) for name in imported(node)}


def is_lazy(node: ast.stmt) -> bool:
    if isinstance(node, ast.If):
        return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def inside(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def of_room(room: str) -> Iterator[tuple[str, ast.Module]]:
    return ((name, tree) for name, tree in MODULES.items() if inside(name, room))


def reached_at_start(start: str) -> set[str]:
    """Every module, ours or not, that `start` leads to by import statements that run at its own import."""
    reached: set[str] = set()
    waiting = {start}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= (imported_at_start(MODULES[name]) if name in MODULES else set()) - reached
    return reached


def defines_a_flow(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(ast.unparse(decorator).split("(")[0] == "flow" for decorator in node.decorator_list)
        for node in tree.body
    )


def listing(findings: Iterable[str]) -> str:
    return "\n".join(sorted(findings))


def test_blocks_know_neither_flows_nor_deployments() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, tree in of_room("blocks")
        for target in imported(tree)
        if inside(target, "flows") or inside(target, "deployments")
    ]

    assert listing(wrong) == ""


def test_core_knows_only_itself_and_what_is_pure() -> None:
    allowed = sys.stdlib_module_names - IMPURE | {"pydantic"}
    wrong = [
        f"{name} imports {target}"
        for name, tree in of_room("flows.core")
        for target in imported(tree)
        if not inside(target, "flows.core")
        and target.split(".")[0] not in (allowed | {"pandas"} if name in WITH_PANDAS else allowed)
    ]

    assert listing(wrong) == ""


def test_core_reads_no_clock_and_opens_no_file() -> None:
    wrong = [
        f"{name}:{node.lineno} {ast.unparse(node.func)}()"
        for name, tree in of_room("flows.core")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Attribute) and node.func.attr in CLOCKS)
            or (isinstance(node.func, ast.Name) and node.func.id == "open")
        )
    ]

    assert listing(wrong) == ""


def test_nobody_imports_the_deployments() -> None:
    wrong = [
        f"{name} imports {target}"
        for room in ("blocks", "flows")
        for name, tree in of_room(room)
        for target in imported(tree)
        if inside(target, "deployments")
    ]

    assert listing(wrong) == ""


def test_tasks_reach_no_flow_and_not_the_command() -> None:
    flows = {name for name, tree in MODULES.items() if defines_a_flow(tree)} | {"flows.cli"}
    wrong = [
        f"{name} leads to {target}"
        for name, tree in of_room("flows.tasks")
        for start in imported(tree) & MODULES.keys()
        for target in reached_at_start(start) & flows
    ]

    assert len(flows) > 1
    assert listing(wrong) == ""


@pytest.mark.parametrize("start", sorted(MODULES))
def test_an_import_does_not_lead_back(start: str) -> None:
    onwards = imported_at_start(MODULES[start]) & MODULES.keys() - {start}
    wrong = [f"{start} → {target} → … → {start}" for target in onwards if start in reached_at_start(target)]

    assert listing(wrong) == ""


def test_only_the_comparison_imports_pandas() -> None:
    users = [name for name, tree in MODULES.items() if any(inside(used, "pandas") for used in imported(tree))]

    assert sorted(users) == WITH_PANDAS


@pytest.mark.parametrize("start", ["flows", "flows.core", "blocks", "flows.backup", "flows.cli"])
def test_a_backup_does_not_load_pandas(start: str) -> None:
    assert "pandas" not in reached_at_start(start)


def test_no_program_is_started_by_a_shell() -> None:
    wrong = [
        f"{name}:{node.lineno} {ast.unparse(node)}"
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (
            any(keyword.arg == "shell" for keyword in node.keywords)
            or ast.unparse(node.func) in ("os.system", "os.popen")
        )
    ]

    assert listing(wrong) == ""


def test_the_environment_is_read_in_few_places() -> None:
    readers = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv"))
        or (isinstance(node, ast.ImportFrom) and node.module == "os")
    }
    outside = {name for name in readers if not inside(name, "deployments")}

    assert sorted(outside) == sorted(READERS_OF_THE_ENVIRONMENT)


def our_files() -> list[Path]:
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize(
    "text",
    [
        # in two pieces, so that this file does not hold them
        pytest.param("/wo" + "rk/", id="a-path-of-the-machine-it-was-written-on"),
        pytest.param("/ro" + "ot/", id="somebody's-home"),
        pytest.param("py" + "pi.org", id="a-registry"),
        pytest.param("python" + "hosted", id="a-registry's-files"),
        pytest.param("--index-" + "url", id="an-option-that-names-a-registry"),
    ],
)
def test_no_file_names(text: str) -> None:
    holders = [str(path.relative_to(ROOT)) for path in our_files() if text.encode() in path.read_bytes()]

    assert holders == []


@pytest.mark.parametrize("lock", ["requirements.lock", "tests/requirements.lock"])
def test_every_locked_package_is_pinned_by_hash_and_has_no_address(lock: str) -> None:
    entries = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", " ").splitlines()

    assert len(entries) > 100
    assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
    assert [entry for entry in entries if "://" in entry] == []


def test_the_tests_lock_holds_the_other_one() -> None:
    runtime, tests = (
        {line.split()[0] for line in (ROOT / lock).read_text(encoding="utf-8").splitlines() if "==" in line}
        for lock in ("requirements.lock", "tests/requirements.lock")
    )

    assert runtime <= tests


def test_the_makefile_has_few_targets_and_each_says_what_it_does() -> None:
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    targets = [line for line in lines if re.match(r"[a-z-]+:", line)]

    assert 0 < len(targets) <= 10
    assert [line for line in targets if " ## " not in line] == []
