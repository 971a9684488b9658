"""TLS and tokens in the rendered chart. The settings are loaded with the code that reads them."""

import copy

import helm_python
import pytest

from datamodels.rpc.access import readers_of
from datamodels.settings import AuthSettings, ClientSettings, ServeSettings
from tests.helm.conftest import COMPONENTS, VALUES, render
from tests.helpers.calls import SERVICES

SECURE = ("tls", "everything")
CLIENTS = ("driver", "trainer")
SECRETS = {"tls": ("server-tls", "client-tls"), "everything": ("dm-tls", "dm-client-tls")}


def environ(pod):
    return [{e["name"]: e.get("value") for e in c.get("env", [])} for c in pod["spec"]["containers"]]


def services(each):
    """Return {component: pod template} of the services; the fitter may be a Job."""
    return {c: (each.of("Deployment", c) or each.of("Job", c))[0]["spec"]["template"] for c in COMPONENTS}


def clients(each):
    return {c: each.templates[c]["spec"]["template"] for c in CLIENTS} | {"test": each.one("Pod", "test")}


def files(pod):
    """Return {path: (Secret, key)} of the files in the pod's volume `tls`."""
    (volume,) = [v for v in pod["spec"]["volumes"] if v["name"] == "tls"]
    (mount,) = {m["mountPath"] for c in pod["spec"]["containers"] for m in c["volumeMounts"] if m["name"] == "tls"}
    return {
        f"{mount}/{item['path']}": (source["secret"]["name"], item["key"])
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
    }


@pytest.mark.parametrize("name", SECURE)
def test_every_service_uses_tls_and_requires_certificates(rendered, name):
    server, client = SECRETS[name]
    for component, pod in services(rendered[name]).items():
        settings = ServeSettings.load(environ(pod)[0])
        assert files(pod) == {
            settings.cert_file: (server, "tls.crt"),
            settings.key_file: (server, "tls.key"),
            settings.client_ca_file: (client, "ca.crt"),
        }, component


def test_the_explorer_speaks_https_with_the_certificate_of_the_services(rendered):
    each = rendered["everything"]
    pod = each.one("Deployment", "explorer")["spec"]["template"]
    settings = ServeSettings.load(environ(pod)[0])
    assert files(pod)[settings.cert_file] == ("dm-tls", "tls.crt") and files(pod)[settings.key_file][1] == "tls.key"
    (container,) = pod["spec"]["containers"]
    probes = [container[f"{name}Probe"]["httpGet"]["scheme"] for name in ("startup", "readiness", "liveness")]
    assert probes == ["HTTPS"] * 3
    assert each.one("Service", "explorer")["spec"]["ports"][0]["port"] == 443
    (certificate,) = [c for c in each.of("Certificate") if c["spec"]["secretName"] == "dm-tls"]
    assert "dm-explorer.ns.svc" in certificate["spec"]["dnsNames"]


@pytest.mark.parametrize("name", SECURE)
def test_clients_have_a_certificate_and_not_the_key_of_the_services(rendered, name):
    server, client = SECRETS[name]
    for who, pod in clients(rendered[name]).items():
        for each in environ(pod):
            settings = ClientSettings.load(each)
            assert files(pod) == {
                settings.ca_file: (server, "ca.crt"),
                settings.cert_file: (client, "tls.crt"),
                settings.key_file: (client, "tls.key"),
            }, who


def test_without_mutual_tls_only_the_services_have_a_certificate():
    values = copy.deepcopy(VALUES["tls"]) | {"tls": {"enabled": True, "existingSecret": "server-tls"}}
    found = render("one way", values)
    for pod in services(found).values():
        assert ServeSettings.load(environ(pod)[0]).client_ca_file == "" and len(files(pod)) == 2
    for pod in clients(found).values():
        assert list(files(pod).values()) == [("server-tls", "ca.crt")]
        assert ClientSettings.load(environ(pod)[0]).cert_file == ""


def test_probes_use_the_port_without_tls_and_only_readiness_asks_for_the_store(each):
    port = 50052 if each.name in SECURE else 50051
    for component, pod in services(each).items():
        (container,) = pod["spec"]["containers"]
        probes = {container[f"{kind}Probe"]["grpc"]["port"] for kind in ("startup", "readiness", "liveness")}
        assert probes == {port}, component
        assert port in {p["containerPort"] for p in container["ports"]}
        assert "service" not in container["livenessProbe"]["grpc"], "a store that hangs is no reason to restart"
        assert container["readinessProbe"]["grpc"]["service"] in SERVICES, component
        settings = ServeSettings.load(environ(pod)[0])
        assert port == (settings.health_port or settings.port)


def test_the_certificates_have_the_names_that_clients_call(rendered):
    server, client = rendered["everything"].of("Certificate")
    names = {f"dm-{component}.ns" for component in COMPONENTS}
    assert names <= set(server["spec"]["dnsNames"]) and "server auth" in server["spec"]["usages"]
    assert "client auth" in client["spec"]["usages"] and not names & set(client["spec"]["dnsNames"])
    assert server["spec"]["issuerRef"] == {"name": "internal", "kind": "ClusterIssuer"}
    assert not rendered["tls"].of("Certificate")


@pytest.mark.parametrize("name", SECURE)
def test_services_that_write_require_tokens(rendered, name):
    for component, pod in services(rendered[name]).items():
        settings = AuthSettings.load(environ(pod)[0])
        assert bool(settings.keys) == (component in ("aggregator", "fitter")), component
        if settings.keys:
            accounts = {p["spec"]["serviceAccountName"] for p in clients(rendered[name]).values() if with_token(p)}
            assert set(settings.subjects.split(",")) == {f"system:serviceaccount:ns:{a}" for a in accounts}
            mounted = any(v["name"] == "keys" for v in pod["spec"]["volumes"])
            assert mounted == (name == "everything") == settings.keys.startswith("/etc/datamodels/keys/")


def with_token(pod):
    return any("DATAMODELS_CLIENT_TOKEN_FILE" in each for each in environ(pod))


@pytest.mark.parametrize("name", SECURE)
def test_drivers_and_trainers_have_their_own_token_and_account(rendered, name):
    for who, pod in clients(rendered[name]).items():
        assert with_token(pod) == (who in CLIENTS)
        if who in CLIENTS:
            (container,) = pod["spec"]["containers"]
            (mount,) = [m["mountPath"] for m in container["volumeMounts"] if m["name"] == "run-token"]
            assert ClientSettings.load(environ(pod)[0]).token_file == f"{mount}/token"
            assert pod["spec"]["serviceAccountName"] == f"dm-{who}"
    (account,) = [a for a in rendered[name].of("ServiceAccount") if a["metadata"]["name"] == "dm-trainer"]
    assert "annotations" not in account["metadata"], "trainers do not get the identity of the store"


def test_tls_and_tokens_are_off_by_default(rendered):
    for _, pod in rendered["defaults"].pods():
        for each in environ(pod):
            assert not ServeSettings.load(each).cert_file and not ClientSettings.load(each).ca_file
            assert not AuthSettings.load(each).keys


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tls": {"enabled": True}}, "tls.existingSecret: name a Secret"),
        ({"tls": {"mtls": {"enabled": True}}}, "tls.mtls: needs tls.enabled"),
        ({"tls": {"enabled": True, "existingSecret": "a", "mtls": {"enabled": True}}}, "tls.mtls.existingSecret: name"),
        ({"auth": {"tokens": {"enabled": True}}}, "auth.tokens: needs tls.enabled"),
        ({"auth": {"readers": {"runs": {"a": ["*"]}}}}, "auth.readers: needs auth.tokens.enabled"),
        (
            {"tls": VALUES["tls"]["tls"], "auth": {"tokens": {"enabled": True, "jwksConfigMap": "keys"}}},
            "auth.tokens.issuer: must be set with jwksConfigMap",
        ),
    ],
)
def test_values_that_cannot_work_are_refused_at_installation(values, message):
    with pytest.raises(helm_python.HelmError, match=message):
        render("wrong", VALUES["defaults"] | values)


def test_with_readers_the_query_service_requires_tokens_too():
    values = copy.deepcopy(VALUES["tls"])
    who = {"system:serviceaccount:web:dash": ["mnist-*", "cifar-*"], "group:team": ["*"]}
    discovery = "https://login.example/.well-known/openid-configuration"
    values["auth"]["readers"] = {"runs": who, "audience": "client", "discovery": discovery, "egress": {"ports": [8443]}}
    values["auth"]["readers"]["egress"]["cidrs"] = ["192.0.2.0/24"]
    found = render("readers", values)
    for component, pod in services(found).items():
        settings = AuthSettings.load(environ(pod)[0])
        assert bool(settings.keys) == bool(settings.readers) == (component != "sampler")
        (policy,) = [p["spec"] for p in found.of("NetworkPolicy", component)]
        ports = {port["port"] for rule in policy.get("egress", []) for port in rule["ports"]}
        assert (8443 in ports) == bool(settings.readers), component
        if settings.readers:
            assert readers_of(settings.readers) == {name: tuple(runs) for name, runs in who.items()}
            assert (settings.audience, settings.reader_keys) == ("client", discovery)
            assert pod["spec"]["automountServiceAccountToken"] is True
