"""What a trainer can be watched by. It is scraped while it lives; the truth about a run is the aggregator's."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from datamodels.telemetry import logger
from datamodels.train.job import Observer

log = logger(__name__)

MODELS = Counter("datamodels_train_models_total", "Models trained, the failed ones included.")
FAILED = Counter("datamodels_train_failed_models_total", "Models that gave no usable outputs.")
MODEL_SECONDS = Histogram(
    "datamodels_train_model_seconds",
    "Seconds to train one model and make its outputs; its share where many are trained at once.",
    buckets=[1e-3 * 4**i for i in range(12)],  # 1 ms to 70 minutes
)
PUT_WAIT = Counter("datamodels_train_put_wait_seconds_total", "Seconds that training stood still for a commit.")
SUB_CHUNKS = Counter("datamodels_train_sub_chunks_total", "Sub-chunks committed.")
CHUNK = Gauge("datamodels_train_chunk", "The chunk in training; -1 before the first.")
CHUNK.set(-1)


class Watch(Observer):
    """Counts what the job does, and logs what people should know of."""

    def trained(self, models: int, seconds: float) -> None:
        MODELS.inc(models)
        for _ in range(models):
            MODEL_SECONDS.observe(seconds / models)

    def failed(self, reasons: dict[int, str]) -> None:
        FAILED.inc(len(reasons))
        log.warning("models failed", count=len(reasons), first=next(iter(reasons.values())))

    def waited(self, seconds: float) -> None:
        PUT_WAIT.inc(seconds)

    def committed(self, models: range) -> None:
        SUB_CHUNKS.inc()
        log.debug("sub-chunk committed", first=models.start, last=models.stop)
