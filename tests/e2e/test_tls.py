"""The pipeline with certificates on both sides and a token of the run, all of which are renewed during the run."""

import re

import boto3

from datamodels.errors import ExitCode
from datamodels.settings import StoreSettings
from datamodels.storage import open_store
from tests.e2e.test_pipeline import Pipeline, linear
from tests.helpers.certificates import ISSUER, SUBJECT, Authority, Issuer, write


class SecurePipeline(Pipeline):
    """run  the run that its token is for; its own by default
    s3   settings of a store in S3; a folder by default
    """

    def __init__(self, folder, run=None, s3=None, **fields):
        fields = linear(pause=0.02) | {"m": 140, "evaluate": {"subsets": 0}} | fields
        super().__init__(folder, s3.environ() if s3 else None, **fields)
        self.s3 = open_store(s3) if s3 else None
        self.authority, self.issuer = Authority(folder), Issuer()
        self.run_of_token = run or self.spec.run
        self.issuer.write(folder / "jwks.json")
        server, client = self.renew()
        self.environ |= {
            "DATAMODELS_SERVE_CERT_FILE": server["cert_file"],
            "DATAMODELS_SERVE_KEY_FILE": server["key_file"],
            "DATAMODELS_SERVE_CLIENT_CA_FILE": str(self.authority.ca_file),
            "DATAMODELS_CLIENT_CERT_FILE": client["cert_file"],
            "DATAMODELS_CLIENT_KEY_FILE": client["key_file"],
            "DATAMODELS_CLIENT_CA_FILE": str(self.authority.ca_file),
            "DATAMODELS_CLIENT_TOKEN_FILE": str(folder / "token"),
            "DATAMODELS_AUTH_KEYS": str(folder / "jwks.json"),
            "DATAMODELS_AUTH_ISSUER": ISSUER,
            "DATAMODELS_AUTH_SUBJECTS": SUBJECT,
        }

    def store(self):
        return self.s3 or super().store()

    def renew(self):
        """As the kubelet and an issuer of certificates do."""
        write(self.folder / "token", self.issuer.token(self.run_of_token).encode())
        return self.authority.issue("server"), self.authority.issue("client")


def test_a_run_goes_to_s3_by_tls_while_certificates_and_token_are_renewed(tmp_path, ministack):
    boto3.client("s3", endpoint_url=ministack, region_name="us-east-1").create_bucket(Bucket="pipeline")
    s3 = StoreSettings(url="s3://pipeline/team", s3_endpoint=ministack)
    pipeline = SecurePipeline(tmp_path, s3=s3, targets="both")
    driver = pipeline.start("run", "--quiet", "--trainers", "1")
    for _ in range(2):
        pipeline.wait_for_more_parts(2, driver)
        pipeline.renew()
    code, out, err = pipeline.finish(driver)
    assert code == 0, err
    assert sorted(pipeline.committed()) == list(range(140))
    assert "LDS" not in out and len(re.findall(r"^target ", out, re.M)) == 3
    assert not (tmp_path / ".datamodels" / "store").exists()
    logs = "".join(path.read_text() for path in (tmp_path / ".datamodels" / "logs").iterdir())
    assert "certificates reloaded" in logs
    token = (tmp_path / "token").read_text()
    assert not any(part in logs + out + err for part in token.split("."))
    code, out, err = pipeline.command("query", "top", pipeline.spec.run, "3")
    assert code == 0 and "helpful  #" in out, err


def test_the_token_of_another_run_commits_nothing(tmp_path):
    pipeline = SecurePipeline(tmp_path, run="another-run")
    code, out, err = pipeline.command("train", pipeline.path, "--quiet", "--trainers", "1")
    assert (code, out) == (ExitCode.CONFIG, "")
    assert err == f"datamodels: the token is for run another-run, not for '{pipeline.spec.run}'\n"
    assert not list((tmp_path / ".datamodels" / "store").rglob("*.json")) and not pipeline.parts()


def test_who_asks_without_a_certificate_is_not_let_in(tmp_path):
    pipeline = SecurePipeline(tmp_path)
    pipeline.store()  # makes the folder, for a command that reads does not
    for name in ("CERT_FILE", "KEY_FILE"):
        del pipeline.environ[f"DATAMODELS_CLIENT_{name}"]
    pipeline.environ["DATAMODELS_CLIENT_ATTEMPTS"] = "1"
    code, out, err = pipeline.command("query", "runs")
    assert (code, out) == (ExitCode.TRANSIENT, "")
    assert len(err.splitlines()) == 1 and "UNAVAILABLE" in err
