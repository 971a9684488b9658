"""TLS both ways and tokens of runs, with Secrets made as docs/guides/kubernetes-access.md says, or by cert-manager."""

import base64
import json
import subprocess

import pytest

from tests.cluster.place import SMALL, labels_of, run, until
from tests.cluster.specs import written

CERTIFICATES = """
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.crt
issue() {
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout $1.key -out $1.csr
  echo "subjectAltName=$2" > $1.names
  openssl x509 -req -in $1.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out $1.crt -extfile $1.names
}
issue server DNS:dm-sampler.$0,DNS:dm-aggregator.$0,DNS:dm-fitter.$0,DNS:dm-query.$0,DNS:dm-explorer.$0
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
SHOWN = """
import ssl, sys
print(ssl.get_server_certificate((sys.argv[1], 50051)))
"""
EXPLORE = """
import ssl, sys, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"X-Forwarded-User": "ada"})
context = ssl.create_default_context(cafile="/tmp/ca.crt")
print(urllib.request.urlopen(request, context=context, timeout=60).read().decode())
"""
PROVE = ("DATAMODELS_CLIENT_CERT_FILE=/tmp/client.crt", "DATAMODELS_CLIENT_KEY_FILE=/tmp/client.key")


def test_a_run_with_certificates_and_tokens(release, tmp_path):
    namespace = release.namespace
    explorer = f"dm-explorer.{namespace.name}"
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
        "explorer": {"enabled": True, "userHeader": "X-Forwarded-User", "hosts": [explorer], "resources": SMALL},
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
    assert spec.run in namespace.within("tools", "python", "-c", EXPLORE, f"https://{explorer}/api/v1/runs")
    namespace.tried("tools", "python", "-c", EXPLORE, f"http://{explorer}:443/api/v1/runs")
    refused = namespace.tried("as-trainer", "env", TRUST, *PROVE, "python", "-c", PUBLISH, spec.run)
    assert "this service requires a bearer token of the run" in refused


def made_by(issuer, kind, **spec):
    return {"apiVersion": "cert-manager.io/v1", "kind": kind, "metadata": {"name": issuer}, "spec": spec}


def test_a_run_with_certificates_of_cert_manager(release, tmp_path):
    if run(["kubectl", "get", "--raw", "/apis/cert-manager.io"], check=False).returncode:
        pytest.skip("the cluster has no cert-manager")
    namespace = release.namespace
    authority = {"isCA": True, "commonName": "ca", "secretName": "ca", "issuerRef": {"name": "itself"}}
    namespace.apply(
        made_by("itself", "Issuer", selfSigned={}),
        made_by("ca", "Certificate", **authority),
        made_by("ca", "Issuer", ca={"secretName": "ca"}),
    )
    issuer = {"certManager": {"issuerRef": {"name": "ca", "kind": "Issuer"}}}
    release.values |= {
        "tls": {"enabled": True, "mtls": {"enabled": True}} | issuer,
        "auth": {"tokens": {"enabled": True}},
    }
    release.install()
    release.test()
    path, spec = written(tmp_path, "breast-cancer", m=300)
    assert f"{spec.run}  done" in namespace.datamodels("submit", path, "--watch").stdout

    namespace.make_pod("tools")
    server = f"dm-query.{namespace.name}.svc"

    def shown():
        return namespace.within("tools", "python", "-c", SHOWN, server)

    before, starts = shown(), [pod["status"]["startTime"] for pod in namespace.get("pods")]
    namespace.kubectl("delete", "secret", "dm-tls")
    until(lambda: shown() != before, "the new certificate is not shown", every=5)
    release.test()
    assert [pod["status"]["startTime"] for pod in namespace.get("pods")] == starts, "a pod was started again"
