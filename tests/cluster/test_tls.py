"""TLS both ways and tokens of runs, with Secrets made as docs/kubernetes.md says."""

import base64
import json
import subprocess

from tests.cluster.place import labels_of
from tests.cluster.specs import written

CERTIFICATES = """
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.crt
issue() {
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout $1.key -out $1.csr
  echo "subjectAltName=$2" > $1.names
  openssl x509 -req -in $1.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out $1.crt -extfile $1.names
}
issue server DNS:dm-sampler.$0,DNS:dm-aggregator.$0,DNS:dm-fitter.$0,DNS:dm-query.$0
issue client DNS:dm-client.$0
"""
UNPACK = """
import base64, json, pathlib, sys
for name, data in json.loads(sys.argv[1]).items():
    pathlib.Path("/tmp", name).write_bytes(base64.b64decode(data))
"""
PUBLISH = """
import sys
from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.settings import ClientSettings
settings = ClientSettings.load()
AggregatorClient(settings.aggregator, settings).publish(sys.argv[1])
"""
TRUST = "DATAMODELS_CLIENT_CA_FILE=/tmp/ca.crt"
PROVE = ("DATAMODELS_CLIENT_CERT_FILE=/tmp/client.crt", "DATAMODELS_CLIENT_KEY_FILE=/tmp/client.key")


def test_a_run_with_certificates_and_tokens(release, tmp_path):
    namespace = release.namespace
    subprocess.run(["bash", "-ec", CERTIFICATES, namespace.name], cwd=tmp_path, check=True, capture_output=True)
    for name in ("server", "client"):
        files = {"tls.crt": f"{name}.crt", "tls.key": f"{name}.key", "ca.crt": "ca.crt"}
        data = {key: (tmp_path / file).read_text() for key, file in files.items()}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{name}-tls"}, "stringData": data}
        namespace.apply(secret)
    release.values |= {
        "tls": {
            "enabled": True,
            "existingSecret": "server-tls",
            "mtls": {"enabled": True, "existingSecret": "client-tls"},
        },
        "auth": {"tokens": {"enabled": True}},
    }
    release.install()
    release.test()
    path, spec = written(tmp_path, "breast-cancer", m=300)
    assert f"{spec.run}  done" in namespace.datamodels("submit", path, "--watch").stdout

    release.make_tools()
    release.make_tools("as-trainer", labels_of("trainer"))
    files = {name: (tmp_path / name).read_bytes() for name in ("ca.crt", "client.crt", "client.key")}
    packed = json.dumps({name: base64.b64encode(data).decode() for name, data in files.items()})
    for pod in ("tools", "as-trainer"):
        namespace.within(pod, "python", "-c", UNPACK, packed)

    def asked(*environ):
        return namespace.within("tools", "env", *environ, "datamodels", "query", "runs", check=False)

    assert spec.run in asked(TRUST, *PROVE)
    assert spec.run not in asked(TRUST), "asked without a certificate"
    assert spec.run not in asked(), "asked without TLS"
    refused = namespace.tried("as-trainer", "env", TRUST, *PROVE, "python", "-c", PUBLISH, spec.run)
    assert "this service asks for a bearer token of the run" in refused
