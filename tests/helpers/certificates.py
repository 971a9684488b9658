"""Makes certificates and tokens like those that a cluster issues."""

import base64
import datetime
import ipaddress
import json
import os

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from datamodels.rpc.auth import audience

DAY = datetime.timedelta(days=1)
SUBJECT = "system:serviceaccount:ns:dm-trainer"
ISSUER = "https://kubernetes.default.svc.cluster.local"


def _pem(key):
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


def write(path, data):
    """Replace a file as the kubelet does: a reader sees the old file or the new one, never a partial one."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)


class Authority:
    """Issues certificates for 127.0.0.1 and `localhost`, as files of a folder."""

    def __init__(self, folder, name="authority"):
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._build(self.name, self.key, authority=True)
        self.ca_file = folder / f"{name}.crt"
        write(self.ca_file, certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name, host="localhost", ip="127.0.0.1"):
        """Issue a certificate and return {"cert_file", "key_file"}. Repeating a name replaces its files."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(host), *(x509.IPAddress(ipaddress.ip_address(address)) for address in ip.split())]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._build(subject, key, x509.SubjectAlternativeName(names))
        paths = {"cert_file": self.folder / f"{name}.crt", "key_file": self.folder / f"{name}.key"}
        write(paths["key_file"], _pem(key))
        write(paths["cert_file"], certificate.public_bytes(serialization.Encoding.PEM))
        return {field: str(path) for field, path in paths.items()}

    def _build(self, subject, key, names=None, authority=False):
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.key, hashes.SHA256())


class Issuer:
    """Signs tokens as an API server does, with one key at a time."""

    def __init__(self, name="key"):
        self.turn(name)

    def turn(self, name):
        """Switch to a new key."""
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())

    def keys(self):
        """Return the public key as a JSON Web Key Set."""
        numbers = self.key.public_key().public_numbers()
        x, y = (base64.urlsafe_b64encode(n.to_bytes(32, "big")).rstrip(b"=").decode() for n in (numbers.x, numbers.y))
        key = {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.name, "x": x, "y": y}
        return {"keys": [key]}

    def write(self, path):
        write(path, json.dumps(self.keys()).encode())

    def token(self, run="a", life=600.0, header=None, **claims):
        """Return a token for a run that expires `life` seconds from now. Claims that are None are left out."""
        now = datetime.datetime.now(datetime.UTC).timestamp()
        made = {"iss": ISSUER, "sub": SUBJECT, "aud": [audience(run)], "iat": now + life - 600, "exp": now + life}
        made = {name: value for name, value in (made | claims).items() if value is not None}
        return jwt.encode(made, self.key, algorithm="ES256", headers={"kid": self.name} | (header or {}))
