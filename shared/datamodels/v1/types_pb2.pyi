from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Tensor(_message.Message):
    __slots__ = ("dtype", "shape", "data")
    class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DTYPE_UNSPECIFIED: _ClassVar[Tensor.DType]
        DTYPE_UINT8: _ClassVar[Tensor.DType]
        DTYPE_INT32: _ClassVar[Tensor.DType]
        DTYPE_INT64: _ClassVar[Tensor.DType]
        DTYPE_FLOAT16: _ClassVar[Tensor.DType]
        DTYPE_FLOAT32: _ClassVar[Tensor.DType]
        DTYPE_FLOAT64: _ClassVar[Tensor.DType]
    DTYPE_UNSPECIFIED: Tensor.DType
    DTYPE_UINT8: Tensor.DType
    DTYPE_INT32: Tensor.DType
    DTYPE_INT64: Tensor.DType
    DTYPE_FLOAT16: Tensor.DType
    DTYPE_FLOAT32: Tensor.DType
    DTYPE_FLOAT64: Tensor.DType
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    dtype: Tensor.DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, dtype: _Optional[_Union[Tensor.DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Design(_message.Message):
    __slots__ = ("kind", "seed", "alpha", "examples", "groups", "pinned_in", "pinned_out", "unseen_from")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Design.Kind]
        KIND_UNIFORM: _ClassVar[Design.Kind]
        KIND_COMPLEMENT: _ClassVar[Design.Kind]
        KIND_STRATIFIED: _ClassVar[Design.Kind]
        KIND_GROUPED: _ClassVar[Design.Kind]
        KIND_IMPORTED: _ClassVar[Design.Kind]
        KIND_HADAMARD: _ClassVar[Design.Kind]
    KIND_UNSPECIFIED: Design.Kind
    KIND_UNIFORM: Design.Kind
    KIND_COMPLEMENT: Design.Kind
    KIND_STRATIFIED: Design.Kind
    KIND_GROUPED: Design.Kind
    KIND_IMPORTED: Design.Kind
    KIND_HADAMARD: Design.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    PINNED_IN_FIELD_NUMBER: _ClassVar[int]
    PINNED_OUT_FIELD_NUMBER: _ClassVar[int]
    UNSEEN_FROM_FIELD_NUMBER: _ClassVar[int]
    kind: Design.Kind
    seed: int
    alpha: float
    examples: int
    groups: Tensor
    pinned_in: Tensor
    pinned_out: Tensor
    unseen_from: int
    def __init__(self, kind: _Optional[_Union[Design.Kind, str]] = ..., seed: _Optional[int] = ..., alpha: _Optional[float] = ..., examples: _Optional[int] = ..., groups: _Optional[_Union[Tensor, _Mapping]] = ..., pinned_in: _Optional[_Union[Tensor, _Mapping]] = ..., pinned_out: _Optional[_Union[Tensor, _Mapping]] = ..., unseen_from: _Optional[int] = ...) -> None: ...

class Output(_message.Message):
    __slots__ = ("name", "unit", "higher_is_better", "threshold", "lowest", "highest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    HIGHER_IS_BETTER_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    LOWEST_FIELD_NUMBER: _ClassVar[int]
    HIGHEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    unit: str
    higher_is_better: bool
    threshold: float
    lowest: float
    highest: float
    def __init__(self, name: _Optional[str] = ..., unit: _Optional[str] = ..., higher_is_better: _Optional[bool] = ..., threshold: _Optional[float] = ..., lowest: _Optional[float] = ..., highest: _Optional[float] = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("text", "first", "last")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    text: str
    first: int
    last: int
    def __init__(self, text: _Optional[str] = ..., first: _Optional[int] = ..., last: _Optional[int] = ...) -> None: ...

class RunRecord(_message.Message):
    __slots__ = ("run", "spec_json", "design", "own_example", "labels", "target_labels", "dtype", "output", "label_names", "spans")
    RUN_FIELD_NUMBER: _ClassVar[int]
    SPEC_JSON_FIELD_NUMBER: _ClassVar[int]
    DESIGN_FIELD_NUMBER: _ClassVar[int]
    OWN_EXAMPLE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TARGET_LABELS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    LABEL_NAMES_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    run: str
    spec_json: str
    design: Design
    own_example: Tensor
    labels: Tensor
    target_labels: Tensor
    dtype: Tensor.DType
    output: Output
    label_names: _containers.RepeatedScalarFieldContainer[str]
    spans: _containers.RepeatedCompositeFieldContainer[Span]
    def __init__(self, run: _Optional[str] = ..., spec_json: _Optional[str] = ..., design: _Optional[_Union[Design, _Mapping]] = ..., own_example: _Optional[_Union[Tensor, _Mapping]] = ..., labels: _Optional[_Union[Tensor, _Mapping]] = ..., target_labels: _Optional[_Union[Tensor, _Mapping]] = ..., dtype: _Optional[_Union[Tensor.DType, str]] = ..., output: _Optional[_Union[Output, _Mapping]] = ..., label_names: _Optional[_Iterable[str]] = ..., spans: _Optional[_Iterable[_Union[Span, _Mapping]]] = ...) -> None: ...

class Provenance(_message.Message):
    __slots__ = ("run", "spec_hash", "alpha", "fit", "manifest_version", "solver", "models", "partial", "estimator", "output", "chosen")
    RUN_FIELD_NUMBER: _ClassVar[int]
    SPEC_HASH_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    FIT_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_VERSION_FIELD_NUMBER: _ClassVar[int]
    SOLVER_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    ESTIMATOR_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    run: str
    spec_hash: str
    alpha: float
    fit: int
    manifest_version: int
    solver: str
    models: int
    partial: bool
    estimator: str
    output: Output
    chosen: str
    def __init__(self, run: _Optional[str] = ..., spec_hash: _Optional[str] = ..., alpha: _Optional[float] = ..., fit: _Optional[int] = ..., manifest_version: _Optional[int] = ..., solver: _Optional[str] = ..., models: _Optional[int] = ..., partial: _Optional[bool] = ..., estimator: _Optional[str] = ..., output: _Optional[_Union[Output, _Mapping]] = ..., chosen: _Optional[str] = ...) -> None: ...
