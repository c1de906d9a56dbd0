"""Which failures to import mean that an extra is missing."""

import sys
from pathlib import Path

import pytest

from blocks.errors import ConfigurationError
from blocks.stores.extras import imported


@pytest.mark.parametrize("module", ["no_such_package", "no_such_package.inside", "email.no_such_module"])
def test_a_missing_module_is_told_as_its_extra(module: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        imported(module, "gcp")
    assert caught.value.hint == "pip install 'pgsalvo[gcp]'"


def test_what_an_installed_extra_lacks_is_not_told_as_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lacking_extra.py").write_text("import lacking_extras_own_need")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(ModuleNotFoundError, match="lacking_extras_own_need"):
        imported("lacking_extra", "gcp")
