"""Which authorities' certificates vouch for a server, where the environment names a file of them.

Each library that stores use reads other variables, or none; here all of them get the same file.
"""

import os
from pathlib import Path

from blocks.errors import ConfigurationError

# what `requests` reads, and then OpenSSL
_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def authorities_file(*first: str) -> str:
    """Return the path of the file; "" if none is named, which leaves the usual authorities.

    Args:
        first: Variables that count before those that are meant for everybody.

    Raises:
        ConfigurationError: A variable names no file.
    """
    for name in (*first, *_VARIABLES):
        path = os.environ.get(name)
        if path and not Path(path).is_dir():  # which some libraries take, and others do not
            if not Path(path).is_file():
                raise ConfigurationError(
                    f"{name} names no file: {path}", "name a file of authorities' certificates, or unset it"
                )
            return path
    return ""
