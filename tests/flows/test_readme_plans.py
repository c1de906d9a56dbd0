"""The plans that README shows can be read as they stand."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from flows.plan_file import PlanFile

README = (Path(__file__).parents[2] / "README.md").read_text()
WHOLE = re.findall(r"^cat > plans\.toml <<'END'\n(.*?)^END\n", README, re.DOTALL | re.MULTILINE)
FRAGMENTS = re.findall(r"^```toml\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda text: text.splitlines()[0])
def test_what_readme_says_of_a_plan_can_be_read(fragment: str, tmp_path: Path) -> None:
    (whole,) = WHOLE
    document = _merged(tomllib.loads(whole), tomllib.loads(fragment))
    file = PlanFile(tmp_path / "plans.toml", document["plans"], document["secret_keys"])
    assert file.plan("shop").name == "shop"


def _merged(document: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    """Return both tables in one, as if they stood in one file."""
    both = {name: _joined(document[name], added[name]) for name in document.keys() & added.keys()}
    return document | added | both


def _joined(one: Any, other: Any) -> Any:
    return one + other if isinstance(one, list) else _merged(one, other)
