"""What nobody foresaw in a transfer: it costs the destination, never the truth about it."""

import pytest

from blocks.stores import LocalStore
from tests.servers.plan import PlanOnDisk


@pytest.mark.parametrize("operation", ["put", "get", "stat", "create"])
def test_an_error_that_no_store_should_raise_is_no_backup(
    operation: str, plan: PlanOnDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("nobody foresaw this")

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, operation, broken)
        with pytest.raises(Exception, match="nobody foresaw this"):
            plan.back_up()
    assert plan.backups() == []
    assert not any(key.endswith("manifest.json") for key in plan.objects())
