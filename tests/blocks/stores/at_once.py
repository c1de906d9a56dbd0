"""Several uses of stores at the same time: their time-outs are then waited for once, not one by one."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor


def failures(uses: Mapping[str, Callable[[], object]]) -> dict[str, BaseException | None]:
    """Return what each use raised, None if nothing."""
    with ThreadPoolExecutor(len(uses)) as pool:
        begun = {name: pool.submit(use) for name, use in uses.items()}
    return {name: future.exception() for name, future in begun.items()}
