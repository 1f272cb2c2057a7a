"""TLS for the tests."""

from __future__ import annotations

import ssl
from pathlib import Path

# Self-signed for 127.0.0.1, until 2126; made by openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes.
CERTIFICATE = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgOrhMMQy6vQRyTjph
JvJ2+v/KnJm1G9CnVXgWiivvVk+hRANCAATTguiDCpjNaQT3P51ulIXi0zTGvWSF
rOrG5TtdnSvQR+lrXW9enlom7oxWf6PWK3hwrmRgQ+67nJKQ+Po1pHaG
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBjzCCATagAwIBAgIUfod3SsClej4dBPwLNCxdtALVOUgwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJMTI3LjAuMC4xMCAXDTI2MTEyMzIwNTgxNVoYDzIxMjYxMDMw
MjA1ODE1WjAUMRIwEAYDVQQDDAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATTguiDCpjNaQT3P51ulIXi0zTGvWSFrOrG5TtdnSvQR+lrXW9enlom
7oxWf6PWK3hwrmRgQ+67nJKQ+Po1pHaGo2QwYjAdBgNVHQ4EFgQUBeEJQFmInry4
MlCgcG2e/5v6R08wHwYDVR0jBBgwFoAUBeEJQFmInry4MlCgcG2e/5v6R08wDwYD
VR0TAQH/BAUwAwEB/zAPBgNVHREECDAGhwR/AAABMAoGCCqGSM49BAMCA0cAMEQC
IAukxjSTpDP4miAvowoMX8xwI2fFmgNwjSF2JDwtljqmAiAbAZa5wmXYsgtxHh58
cJ+au8l3mhJyP8rj6qI8rCnMjw==
-----END CERTIFICATE-----
"""


def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For the server, for the client."""
    file = tmp_path / "certificate.pem"
    file.write_text(CERTIFICATE)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=file)
