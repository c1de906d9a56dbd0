"""TLS for a test's server, with a certificate that it signed itself."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.servers.ports import wait_until
from tests.servers.postgres import UNPRIVILEGED_UID, PostgresServer


def turn_tls_on(server: PostgresServer, host: str) -> Path:
    """Give `server` a certificate for `host`, and return the file that vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    ).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for file_name, body in (("server.crt", certificate), ("server.key", private)):
        path = server.directory / "data" / file_name
        path.write_bytes(body)
        path.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(path, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
    server.execute("ALTER SYSTEM SET ssl = on")
    server.execute("SELECT pg_reload_conf()")
    wait_until(lambda: server.query("SHOW ssl") == [("on",)], "TLS")
    root = server.directory / "root.crt"
    root.write_bytes(certificate)
    return root
