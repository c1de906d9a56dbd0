"""How keys are spelled on an SMB share, whose names may not hold every character.

What Windows refuses is moved into Unicode's private use area, as Apple's services for Macintosh did and
as Linux's own `mount -t cifs` does: mounted there, a share shows every key as it is.
"""

_REFUSED = {
    '"': "\uf020",
    "*": "\uf021",
    ":": "\uf022",
    "<": "\uf023",
    ">": "\uf024",
    "?": "\uf025",
    "\\": "\uf026",
    "|": "\uf027",
}
_LAST_SPACE, _LAST_DOT = "\uf028", "\uf029"
_SPELLED = str.maketrans(_REFUSED)
_READ = str.maketrans({spelled: refused for refused, spelled in _REFUSED.items()})


def spelled(key: str) -> str:
    """Return a key as a path below a share: backslashes, and no character that a server may refuse."""
    return "\\".join(_spelled(name) for name in key.split("/"))


def read_name(name: str) -> str:
    """Return a name that a server lists as the part of a key that it was made from."""
    if name.endswith(_LAST_SPACE):
        name = f"{name[:-1]} "
    elif name.endswith(_LAST_DOT):
        name = f"{name[:-1]}."
    return name.translate(_READ)


def _spelled(name: str) -> str:
    if name.endswith(" "):
        name = name[:-1] + _LAST_SPACE
    elif name.endswith("."):
        name = name[:-1] + _LAST_DOT
    return name.translate(_SPELLED)
