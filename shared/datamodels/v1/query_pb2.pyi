from datamodels.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Run(_message.Message):
    __slots__ = ("run", "spec_hash", "spec_json", "alpha", "columns", "examples", "targets", "models", "fits", "output", "output_declared", "label_names")
    RUN_FIELD_NUMBER: _ClassVar[int]
    SPEC_HASH_FIELD_NUMBER: _ClassVar[int]
    SPEC_JSON_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    FITS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_DECLARED_FIELD_NUMBER: _ClassVar[int]
    LABEL_NAMES_FIELD_NUMBER: _ClassVar[int]
    run: str
    spec_hash: str
    spec_json: str
    alpha: float
    columns: int
    examples: int
    targets: int
    models: int
    fits: int
    output: _types_pb2.Output
    output_declared: bool
    label_names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, run: _Optional[str] = ..., spec_hash: _Optional[str] = ..., spec_json: _Optional[str] = ..., alpha: _Optional[float] = ..., columns: _Optional[int] = ..., examples: _Optional[int] = ..., targets: _Optional[int] = ..., models: _Optional[int] = ..., fits: _Optional[int] = ..., output: _Optional[_Union[_types_pb2.Output, _Mapping]] = ..., output_declared: _Optional[bool] = ..., label_names: _Optional[_Iterable[str]] = ...) -> None: ...

class GetRunRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class GetRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: Run
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ...) -> None: ...

class ListRunsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRunsResponse(_message.Message):
    __slots__ = ("runs", "next_page_token")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[Run]
    next_page_token: str
    def __init__(self, runs: _Optional[_Iterable[_Union[Run, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Target(_message.Message):
    __slots__ = ("target", "own_example", "label", "gap", "intercept", "nonzeros", "heldout_r2", "status", "span")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    OWN_EXAMPLE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    LAMBDA_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    INTERCEPT_FIELD_NUMBER: _ClassVar[int]
    NONZEROS_FIELD_NUMBER: _ClassVar[int]
    HELDOUT_R2_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SPAN_FIELD_NUMBER: _ClassVar[int]
    target: int
    own_example: int
    label: int
    gap: float
    intercept: float
    nonzeros: int
    heldout_r2: float
    status: str
    span: _types_pb2.Span
    def __init__(self, target: _Optional[int] = ..., own_example: _Optional[int] = ..., label: _Optional[int] = ..., gap: _Optional[float] = ..., intercept: _Optional[float] = ..., nonzeros: _Optional[int] = ..., heldout_r2: _Optional[float] = ..., status: _Optional[str] = ..., span: _Optional[_Union[_types_pb2.Span, _Mapping]] = ..., **kwargs) -> None: ...

class ListTargetsRequest(_message.Message):
    __slots__ = ("run", "page_size", "page_token")
    RUN_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    run: str
    page_size: int
    page_token: str
    def __init__(self, run: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListTargetsResponse(_message.Message):
    __slots__ = ("provenance", "targets", "next_page_token")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    provenance: _types_pb2.Provenance
    targets: _containers.RepeatedCompositeFieldContainer[Target]
    next_page_token: str
    def __init__(self, provenance: _Optional[_Union[_types_pb2.Provenance, _Mapping]] = ..., targets: _Optional[_Iterable[_Union[Target, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class SparseWeights(_message.Message):
    __slots__ = ("targets", "indptr", "indices", "weights", "intercept", "gap", "measured")
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    INDPTR_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    INTERCEPT_FIELD_NUMBER: _ClassVar[int]
    LAMBDA_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    MEASURED_FIELD_NUMBER: _ClassVar[int]
    targets: _types_pb2.Tensor
    indptr: _types_pb2.Tensor
    indices: _types_pb2.Tensor
    weights: _types_pb2.Tensor
    intercept: _types_pb2.Tensor
    gap: _types_pb2.Tensor
    measured: _types_pb2.Tensor
    def __init__(self, targets: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., indptr: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., indices: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., weights: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., intercept: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., gap: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., measured: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., **kwargs) -> None: ...

class GetWeightsRequest(_message.Message):
    __slots__ = ("run", "targets", "top_k")
    RUN_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    run: str
    targets: _types_pb2.Tensor
    top_k: int
    def __init__(self, run: _Optional[str] = ..., targets: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., top_k: _Optional[int] = ...) -> None: ...

class GetWeightsResponse(_message.Message):
    __slots__ = ("provenance", "weights")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    provenance: _types_pb2.Provenance
    weights: SparseWeights
    def __init__(self, provenance: _Optional[_Union[_types_pb2.Provenance, _Mapping]] = ..., weights: _Optional[_Union[SparseWeights, _Mapping]] = ...) -> None: ...

class PredictRequest(_message.Message):
    __slots__ = ("run", "masks", "columns", "targets", "double_precision")
    RUN_FIELD_NUMBER: _ClassVar[int]
    MASKS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_PRECISION_FIELD_NUMBER: _ClassVar[int]
    run: str
    masks: _types_pb2.Tensor
    columns: _types_pb2.Tensor
    targets: _types_pb2.Tensor
    double_precision: bool
    def __init__(self, run: _Optional[str] = ..., masks: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., columns: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., targets: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., double_precision: _Optional[bool] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("provenance", "predictions", "targets", "gap")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    LAMBDA_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    provenance: _types_pb2.Provenance
    predictions: _types_pb2.Tensor
    targets: _types_pb2.Tensor
    gap: _types_pb2.Tensor
    def __init__(self, provenance: _Optional[_Union[_types_pb2.Provenance, _Mapping]] = ..., predictions: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., targets: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., gap: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., **kwargs) -> None: ...

class Influence(_message.Message):
    __slots__ = ("column", "weight", "label", "measured")
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    MEASURED_FIELD_NUMBER: _ClassVar[int]
    column: int
    weight: float
    label: int
    measured: float
    def __init__(self, column: _Optional[int] = ..., weight: _Optional[float] = ..., label: _Optional[int] = ..., measured: _Optional[float] = ...) -> None: ...

class TopInfluencesRequest(_message.Message):
    __slots__ = ("run", "target", "k")
    RUN_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    run: str
    target: int
    k: int
    def __init__(self, run: _Optional[str] = ..., target: _Optional[int] = ..., k: _Optional[int] = ...) -> None: ...

class TopInfluencesResponse(_message.Message):
    __slots__ = ("provenance", "target", "helpful", "harmful")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    HELPFUL_FIELD_NUMBER: _ClassVar[int]
    HARMFUL_FIELD_NUMBER: _ClassVar[int]
    provenance: _types_pb2.Provenance
    target: Target
    helpful: _containers.RepeatedCompositeFieldContainer[Influence]
    harmful: _containers.RepeatedCompositeFieldContainer[Influence]
    def __init__(self, provenance: _Optional[_Union[_types_pb2.Provenance, _Mapping]] = ..., target: _Optional[_Union[Target, _Mapping]] = ..., helpful: _Optional[_Iterable[_Union[Influence, _Mapping]]] = ..., harmful: _Optional[_Iterable[_Union[Influence, _Mapping]]] = ...) -> None: ...

class SupportRequest(_message.Message):
    __slots__ = ("run", "targets", "limit", "safety", "threshold", "mislabel", "worse_than")
    RUN_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    SAFETY_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MISLABEL_FIELD_NUMBER: _ClassVar[int]
    WORSE_THAN_FIELD_NUMBER: _ClassVar[int]
    run: str
    targets: _types_pb2.Tensor
    limit: int
    safety: float
    threshold: float
    mislabel: bool
    worse_than: float
    def __init__(self, run: _Optional[str] = ..., targets: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., limit: _Optional[int] = ..., safety: _Optional[float] = ..., threshold: _Optional[float] = ..., mislabel: _Optional[bool] = ..., worse_than: _Optional[float] = ...) -> None: ...

class SupportResponse(_message.Message):
    __slots__ = ("provenance", "target", "status", "columns", "curve", "label", "before", "span")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    CURVE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    SPAN_FIELD_NUMBER: _ClassVar[int]
    provenance: _types_pb2.Provenance
    target: int
    status: str
    columns: _types_pb2.Tensor
    curve: _types_pb2.Tensor
    label: int
    before: Interval
    span: _types_pb2.Span
    def __init__(self, provenance: _Optional[_Union[_types_pb2.Provenance, _Mapping]] = ..., target: _Optional[int] = ..., status: _Optional[str] = ..., columns: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., curve: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., label: _Optional[int] = ..., before: _Optional[_Union[Interval, _Mapping]] = ..., span: _Optional[_Union[_types_pb2.Span, _Mapping]] = ...) -> None: ...

class CounterfactualRequest(_message.Message):
    __slots__ = ("run", "targets", "base", "remove", "add", "relabel")
    RUN_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    ADD_FIELD_NUMBER: _ClassVar[int]
    RELABEL_FIELD_NUMBER: _ClassVar[int]
    run: str
    targets: _types_pb2.Tensor
    base: _types_pb2.Tensor
    remove: _types_pb2.Tensor
    add: _types_pb2.Tensor
    relabel: _types_pb2.Tensor
    def __init__(self, run: _Optional[str] = ..., targets: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., base: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., remove: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., add: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., relabel: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ...) -> None: ...

class CounterfactualResponse(_message.Message):
    __slots__ = ("provenance", "targets", "before", "change", "change_interval", "after", "after_interval", "before_interval", "spans")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    CHANGE_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    AFTER_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    BEFORE_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    provenance: _types_pb2.Provenance
    targets: _types_pb2.Tensor
    before: _types_pb2.Tensor
    change: _types_pb2.Tensor
    change_interval: _types_pb2.Tensor
    after: _types_pb2.Tensor
    after_interval: _types_pb2.Tensor
    before_interval: _types_pb2.Tensor
    spans: _containers.RepeatedCompositeFieldContainer[_types_pb2.Span]
    def __init__(self, provenance: _Optional[_Union[_types_pb2.Provenance, _Mapping]] = ..., targets: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., before: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., change: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., change_interval: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., after: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., after_interval: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., before_interval: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., spans: _Optional[_Iterable[_Union[_types_pb2.Span, _Mapping]]] = ...) -> None: ...

class SimilarRequest(_message.Message):
    __slots__ = ("run", "target", "column", "k", "metric")
    RUN_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    run: str
    target: int
    column: int
    k: int
    metric: str
    def __init__(self, run: _Optional[str] = ..., target: _Optional[int] = ..., column: _Optional[int] = ..., k: _Optional[int] = ..., metric: _Optional[str] = ...) -> None: ...

class Neighbour(_message.Message):
    __slots__ = ("index", "score", "label", "span")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SPAN_FIELD_NUMBER: _ClassVar[int]
    index: int
    score: float
    label: int
    span: _types_pb2.Span
    def __init__(self, index: _Optional[int] = ..., score: _Optional[float] = ..., label: _Optional[int] = ..., span: _Optional[_Union[_types_pb2.Span, _Mapping]] = ...) -> None: ...

class SimilarResponse(_message.Message):
    __slots__ = ("provenance", "neighbours")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    provenance: _types_pb2.Provenance
    neighbours: _containers.RepeatedCompositeFieldContainer[Neighbour]
    def __init__(self, provenance: _Optional[_Union[_types_pb2.Provenance, _Mapping]] = ..., neighbours: _Optional[_Iterable[_Union[Neighbour, _Mapping]]] = ...) -> None: ...

class LeakageRequest(_message.Message):
    __slots__ = ("run", "k")
    RUN_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    run: str
    k: int
    def __init__(self, run: _Optional[str] = ..., k: _Optional[int] = ...) -> None: ...

class Leak(_message.Message):
    __slots__ = ("target", "column", "share", "weight", "target_label", "label", "measured")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    TARGET_LABEL_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    MEASURED_FIELD_NUMBER: _ClassVar[int]
    target: int
    column: int
    share: float
    weight: float
    target_label: int
    label: int
    measured: float
    def __init__(self, target: _Optional[int] = ..., column: _Optional[int] = ..., share: _Optional[float] = ..., weight: _Optional[float] = ..., target_label: _Optional[int] = ..., label: _Optional[int] = ..., measured: _Optional[float] = ...) -> None: ...

class LeakageResponse(_message.Message):
    __slots__ = ("provenance", "leaks")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    LEAKS_FIELD_NUMBER: _ClassVar[int]
    provenance: _types_pb2.Provenance
    leaks: _containers.RepeatedCompositeFieldContainer[Leak]
    def __init__(self, provenance: _Optional[_Union[_types_pb2.Provenance, _Mapping]] = ..., leaks: _Optional[_Iterable[_Union[Leak, _Mapping]]] = ...) -> None: ...

class AnalysisProgress(_message.Message):
    __slots__ = ("stage", "fraction")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    stage: str
    fraction: float
    def __init__(self, stage: _Optional[str] = ..., fraction: _Optional[float] = ...) -> None: ...

class Interval(_message.Message):
    __slots__ = ("low", "high")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    low: float
    high: float
    def __init__(self, low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class EvaluateRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class EvaluateResponse(_message.Message):
    __slots__ = ("provenance", "progress", "quality")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    provenance: _types_pb2.Provenance
    progress: AnalysisProgress
    quality: Quality
    def __init__(self, provenance: _Optional[_Union[_types_pb2.Provenance, _Mapping]] = ..., progress: _Optional[_Union[AnalysisProgress, _Mapping]] = ..., quality: _Optional[_Union[Quality, _Mapping]] = ...) -> None: ...

class Quality(_message.Message):
    __slots__ = ("evaluation", "single", "mean", "points")
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    SINGLE_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    evaluation: Evaluation
    single: Agreement
    mean: Agreement
    points: Points
    def __init__(self, evaluation: _Optional[_Union[Evaluation, _Mapping]] = ..., single: _Optional[_Union[Agreement, _Mapping]] = ..., mean: _Optional[_Union[Agreement, _Mapping]] = ..., points: _Optional[_Union[Points, _Mapping]] = ...) -> None: ...

class Evaluation(_message.Message):
    __slots__ = ("lds", "interval", "ceiling", "per_target", "subsets", "models", "mean_of", "ceiling_interval", "constant", "coarse")
    LDS_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    CEILING_FIELD_NUMBER: _ClassVar[int]
    PER_TARGET_FIELD_NUMBER: _ClassVar[int]
    SUBSETS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    MEAN_OF_FIELD_NUMBER: _ClassVar[int]
    CEILING_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    CONSTANT_FIELD_NUMBER: _ClassVar[int]
    COARSE_FIELD_NUMBER: _ClassVar[int]
    lds: float
    interval: Interval
    ceiling: float
    per_target: _types_pb2.Tensor
    subsets: int
    models: int
    mean_of: int
    ceiling_interval: Interval
    constant: int
    coarse: int
    def __init__(self, lds: _Optional[float] = ..., interval: _Optional[_Union[Interval, _Mapping]] = ..., ceiling: _Optional[float] = ..., per_target: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., subsets: _Optional[int] = ..., models: _Optional[int] = ..., mean_of: _Optional[int] = ..., ceiling_interval: _Optional[_Union[Interval, _Mapping]] = ..., constant: _Optional[int] = ..., coarse: _Optional[int] = ...) -> None: ...

class Agreement(_message.Message):
    __slots__ = ("models", "r2", "interval", "ceiling", "per_target")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    R2_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    CEILING_FIELD_NUMBER: _ClassVar[int]
    PER_TARGET_FIELD_NUMBER: _ClassVar[int]
    models: int
    r2: float
    interval: Interval
    ceiling: float
    per_target: _types_pb2.Tensor
    def __init__(self, models: _Optional[int] = ..., r2: _Optional[float] = ..., interval: _Optional[_Union[Interval, _Mapping]] = ..., ceiling: _Optional[float] = ..., per_target: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ...) -> None: ...

class Points(_message.Message):
    __slots__ = ("target", "predicted", "single", "mean")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_FIELD_NUMBER: _ClassVar[int]
    SINGLE_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    target: _types_pb2.Tensor
    predicted: _types_pb2.Tensor
    single: _types_pb2.Tensor
    mean: _types_pb2.Tensor
    def __init__(self, target: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., predicted: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., single: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., mean: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ...) -> None: ...

class ClustersRequest(_message.Message):
    __slots__ = ("run", "columns", "k")
    RUN_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    run: str
    columns: bool
    k: int
    def __init__(self, run: _Optional[str] = ..., columns: _Optional[bool] = ..., k: _Optional[int] = ...) -> None: ...

class ClustersResponse(_message.Message):
    __slots__ = ("provenance", "progress", "clusters")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    provenance: _types_pb2.Provenance
    progress: AnalysisProgress
    clusters: Clusters
    def __init__(self, provenance: _Optional[_Union[_types_pb2.Provenance, _Mapping]] = ..., progress: _Optional[_Union[AnalysisProgress, _Mapping]] = ..., clusters: _Optional[_Union[Clusters, _Mapping]] = ...) -> None: ...

class Clusters(_message.Message):
    __slots__ = ("cluster", "sizes", "central", "eigenvalues", "bandwidth", "labels")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    CENTRAL_FIELD_NUMBER: _ClassVar[int]
    EIGENVALUES_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    cluster: _types_pb2.Tensor
    sizes: _types_pb2.Tensor
    central: _types_pb2.Tensor
    eigenvalues: _types_pb2.Tensor
    bandwidth: float
    labels: _types_pb2.Tensor
    def __init__(self, cluster: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., sizes: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., central: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., eigenvalues: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., bandwidth: _Optional[float] = ..., labels: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ...) -> None: ...

class ComponentsRequest(_message.Message):
    __slots__ = ("run", "columns", "k", "extremes")
    RUN_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    EXTREMES_FIELD_NUMBER: _ClassVar[int]
    run: str
    columns: bool
    k: int
    extremes: int
    def __init__(self, run: _Optional[str] = ..., columns: _Optional[bool] = ..., k: _Optional[int] = ..., extremes: _Optional[int] = ...) -> None: ...

class ComponentsResponse(_message.Message):
    __slots__ = ("provenance", "progress", "components")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    provenance: _types_pb2.Provenance
    progress: AnalysisProgress
    components: Components
    def __init__(self, provenance: _Optional[_Union[_types_pb2.Provenance, _Mapping]] = ..., progress: _Optional[_Union[AnalysisProgress, _Mapping]] = ..., components: _Optional[_Union[Components, _Mapping]] = ...) -> None: ...

class Components(_message.Message):
    __slots__ = ("share", "interval", "high", "low", "high_score", "low_score", "high_feature", "low_feature", "scores", "labels", "feature_labels")
    SHARE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_SCORE_FIELD_NUMBER: _ClassVar[int]
    LOW_SCORE_FIELD_NUMBER: _ClassVar[int]
    HIGH_FEATURE_FIELD_NUMBER: _ClassVar[int]
    LOW_FEATURE_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    FEATURE_LABELS_FIELD_NUMBER: _ClassVar[int]
    share: _types_pb2.Tensor
    interval: _types_pb2.Tensor
    high: _types_pb2.Tensor
    low: _types_pb2.Tensor
    high_score: _types_pb2.Tensor
    low_score: _types_pb2.Tensor
    high_feature: _types_pb2.Tensor
    low_feature: _types_pb2.Tensor
    scores: _types_pb2.Tensor
    labels: _types_pb2.Tensor
    feature_labels: _types_pb2.Tensor
    def __init__(self, share: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., interval: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., high: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., low: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., high_score: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., low_score: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., high_feature: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., low_feature: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., scores: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., labels: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., feature_labels: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ...) -> None: ...

class ConflictsRequest(_message.Message):
    __slots__ = ("run", "groups", "k")
    RUN_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    run: str
    groups: str
    k: int
    def __init__(self, run: _Optional[str] = ..., groups: _Optional[str] = ..., k: _Optional[int] = ...) -> None: ...

class ConflictsResponse(_message.Message):
    __slots__ = ("provenance", "progress", "conflicts")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CONFLICTS_FIELD_NUMBER: _ClassVar[int]
    provenance: _types_pb2.Provenance
    progress: AnalysisProgress
    conflicts: Conflicts
    def __init__(self, provenance: _Optional[_Union[_types_pb2.Provenance, _Mapping]] = ..., progress: _Optional[_Union[AnalysisProgress, _Mapping]] = ..., conflicts: _Optional[_Union[Conflicts, _Mapping]] = ...) -> None: ...

class Conflicts(_message.Message):
    __slots__ = ("source", "target", "effect", "interval", "harmed", "sure", "pairs")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    HARMED_FIELD_NUMBER: _ClassVar[int]
    SURE_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    source: _types_pb2.Tensor
    target: _types_pb2.Tensor
    effect: _types_pb2.Tensor
    interval: _types_pb2.Tensor
    harmed: _types_pb2.Tensor
    sure: _types_pb2.Tensor
    pairs: int
    def __init__(self, source: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., target: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., effect: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., interval: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., harmed: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., sure: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., pairs: _Optional[int] = ...) -> None: ...

class StoredObject(_message.Message):
    __slots__ = ("key", "bytes", "modified")
    KEY_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    MODIFIED_FIELD_NUMBER: _ClassVar[int]
    key: str
    bytes: int
    modified: float
    def __init__(self, key: _Optional[str] = ..., bytes: _Optional[int] = ..., modified: _Optional[float] = ...) -> None: ...

class ListObjectsRequest(_message.Message):
    __slots__ = ("run", "prefix", "after", "shallow", "page_size", "page_token")
    RUN_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    SHALLOW_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    run: str
    prefix: str
    after: str
    shallow: bool
    page_size: int
    page_token: str
    def __init__(self, run: _Optional[str] = ..., prefix: _Optional[str] = ..., after: _Optional[str] = ..., shallow: _Optional[bool] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListObjectsResponse(_message.Message):
    __slots__ = ("objects", "next_page_token")
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    objects: _containers.RepeatedCompositeFieldContainer[StoredObject]
    next_page_token: str
    def __init__(self, objects: _Optional[_Iterable[_Union[StoredObject, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ReadObjectRequest(_message.Message):
    __slots__ = ("run", "key")
    RUN_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    run: str
    key: str
    def __init__(self, run: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class ReadObjectResponse(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...
