"""What rsync's exit status and words mean; its words name files and hosts, and are read but not shown."""

import re

from blocks.errors import ObjectMissing, StoreError, StoreForbidden, StoreFull, StoreUnreachable

_ERRNO = re.compile(r"\((\d+)\)\s*$", re.MULTILINE)
# with the file's name in quotes: not what the network or the start of ssh lacks
_MISSING_FILE = re.compile(r'^rsync: (?:\[\w+\] )?\w+ ".*" .*failed: .*\((?:2|20)\)\s*$', re.MULTILINE)
# those of Linux, macOS and the BSDs
_FULL, _FORBIDDEN = {28, 122, 69}, {1, 13, 30}
# what rsync on the server ends with before the two have agreed on how to tell errors
_EARLY_ENDS = {3, 11, 12}
_SHELL_FAILED, _NOT_FOUND = 255, 127
_NO_ANSWER = {10, 12, 30, 35, _SHELL_FAILED}
_OPTIONS = "see its `refuse options`: --delete-missing-args, --ignore-times and --chmod are needed"
_WORDS: list[tuple[str, type[StoreError], str, str]] = [
    ("Host key verification failed", StoreError, "the server's host key is not the one that is known",
     "set host_key to the server's public key, or add it to a known_hosts file"),
    ("Permission denied (", StoreForbidden, "the server lets nobody in with this key",
     "see the address's user, key_file, and the server's authorized_keys"),
    ("auth failed on module", StoreForbidden, "the module lets nobody in with this password",
     "see the address's user, password, and the module's `auth users`"),
    ("@ERROR: access denied", StoreForbidden, "the module lets nobody in from this host",
     "see the module's `hosts allow`"),
    ("@ERROR: max connections", StoreUnreachable, "the module has too many connections",
     "raise its `max connections`, or try again later"),
    ("@ERROR: Unknown module", StoreError, "the server has no such module",
     "correct the address, or add the module to rsyncd.conf"),
    ("bad response from proxy", StoreUnreachable, "there is no way through the proxy",
     "see RSYNC_PROXY: [USER:PASSWORD@]HOST:PORT"),
    ("chdir failed", StoreError, "the module's own directory is not there", "mount it, or make it there"),
    ("module is read only", StoreForbidden, "the module is read only",
     "give rsyncd.conf's module a line: read only = no"),
    ("module is write only", StoreForbidden, "the module is write only", "it must be read as well"),
    ("is configured to refuse", StoreForbidden, "the module refuses an option", _OPTIONS),
    ("invalid file mode 00", StoreForbidden, "the module refuses an option", _OPTIONS),
    ("command not found", StoreError, "the server has no rsync", "install it there: apt-get install rsync"),
]  # fmt: skip


def lost_its_words(status: int, stderr_lines: list[str]) -> bool:
    """Return whether the server's rsync may have said why it ended, and nobody heard it.

    What it says early comes by ssh's own error stream, and rsync here ends ssh when it ends itself.
    """
    heard = any('"' in line or any(word in line for word, *_ in _WORDS) for line in stderr_lines)
    return status in _EARLY_ENDS and not heard


def store_error(status: int, stderr_lines: list[str], what: str) -> StoreError:
    """Return our error for an rsync that did not exit 0."""
    said = "\n".join(stderr_lines)
    for word, kind, text, hint in _WORDS:
        if word in said:
            return kind(f"{what}: {text}", hint)
    numbers = {int(number) for number in _ERRNO.findall(said)}
    if numbers & _FULL:
        return StoreFull(f"{what}: no space is left on the server", "make room there, or keep fewer backups")
    if numbers & _FORBIDDEN:
        return StoreForbidden(
            f"{what}: permission denied", "give the server's user the right to read and write the directory"
        )
    if _MISSING_FILE.search(said):
        return ObjectMissing(f"{what}: it is not there")
    if status == _NOT_FOUND:
        return StoreError(f"{what}: the server has no rsync", "install it there: apt-get install rsync")
    text = f"{what}: no answer (rsync's exit status {status})"
    if status in _NO_ANSWER:
        return StoreUnreachable(text, "see the address, the network, and whether the server runs")
    return StoreError(f"{what}: rsync ended with exit status {status}", "the server's log may tell more")
