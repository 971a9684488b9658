"""Advise on missing packages. The base installation is what the query client needs; extras bring the rest.

This module imports nothing, so that everything may import it.
"""

from __future__ import annotations

DISTRIBUTION = "datamodels-ml"
"""Name of the installed distribution."""
MODULES = {
    "run": (
        *("grpc_health", "grpc_reflection", "numba", "prometheus_client", "pyarrow", "pydantic", "scipy", "shtab"),
        *("threadpoolctl", "tqdm", "yaml"),
    ),
    "trainer": ("sklearn", "torch"),
    "s3": ("boto3", "botocore"),
    "kubernetes": ("kubernetes",),
    "auth": ("jwt", "cryptography"),
    "explorer": ("duckdb", "fastapi", "uvicorn"),
    "otel": ("opentelemetry",),
    "images": ("PIL",),
    "boosting": ("sklearn", "lightgbm", "xgboost"),
    "transformers": ("sklearn", "torch", "transformers"),
    "lightning": ("sklearn", "torch", "lightning"),
}
"""Modules that each extra brings, beyond those of the base installation."""


def advice(error: ModuleNotFoundError) -> str:
    """Say which extra has the missing module; an empty text if none has.

    The command works although the distribution is on no index: it is installed, so pip only adds what the extra needs.
    """
    missing = (error.name or "").partition(".")[0]
    for extra, modules in MODULES.items():
        if missing in modules:
            return f"the package {missing}, which is not installed; pip install '{DISTRIBUTION}[{extra}]'"
    return ""
