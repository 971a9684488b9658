from datamodels.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateRunRequest(_message.Message):
    __slots__ = ("record",)
    RECORD_FIELD_NUMBER: _ClassVar[int]
    record: _types_pb2.RunRecord
    def __init__(self, record: _Optional[_Union[_types_pb2.RunRecord, _Mapping]] = ...) -> None: ...

class CreateRunResponse(_message.Message):
    __slots__ = ("created",)
    CREATED_FIELD_NUMBER: _ClassVar[int]
    created: bool
    def __init__(self, created: _Optional[bool] = ...) -> None: ...

class GetRunRecordRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class GetRunRecordResponse(_message.Message):
    __slots__ = ("record",)
    RECORD_FIELD_NUMBER: _ClassVar[int]
    record: _types_pb2.RunRecord
    def __init__(self, record: _Optional[_Union[_types_pb2.RunRecord, _Mapping]] = ...) -> None: ...

class PutOutputsRequest(_message.Message):
    __slots__ = ("header", "rows")
    class Header(_message.Message):
        __slots__ = ("run", "first", "last", "seconds")
        RUN_FIELD_NUMBER: _ClassVar[int]
        FIRST_FIELD_NUMBER: _ClassVar[int]
        LAST_FIELD_NUMBER: _ClassVar[int]
        SECONDS_FIELD_NUMBER: _ClassVar[int]
        run: str
        first: int
        last: int
        seconds: float
        def __init__(self, run: _Optional[str] = ..., first: _Optional[int] = ..., last: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...
    class Rows(_message.Message):
        __slots__ = ("model_index", "outputs", "failed", "retried")
        MODEL_INDEX_FIELD_NUMBER: _ClassVar[int]
        OUTPUTS_FIELD_NUMBER: _ClassVar[int]
        FAILED_FIELD_NUMBER: _ClassVar[int]
        RETRIED_FIELD_NUMBER: _ClassVar[int]
        model_index: _types_pb2.Tensor
        outputs: _types_pb2.Tensor
        failed: _containers.RepeatedCompositeFieldContainer[FailedModel]
        retried: _containers.RepeatedScalarFieldContainer[int]
        def __init__(self, model_index: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., outputs: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., failed: _Optional[_Iterable[_Union[FailedModel, _Mapping]]] = ..., retried: _Optional[_Iterable[int]] = ...) -> None: ...
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    header: PutOutputsRequest.Header
    rows: PutOutputsRequest.Rows
    def __init__(self, header: _Optional[_Union[PutOutputsRequest.Header, _Mapping]] = ..., rows: _Optional[_Union[PutOutputsRequest.Rows, _Mapping]] = ...) -> None: ...

class FailedModel(_message.Message):
    __slots__ = ("model_index", "reason")
    MODEL_INDEX_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    model_index: int
    reason: str
    def __init__(self, model_index: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class PutOutputsResponse(_message.Message):
    __slots__ = ("committed", "rows")
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    committed: bool
    rows: int
    def __init__(self, committed: _Optional[bool] = ..., rows: _Optional[int] = ...) -> None: ...

class IndexRange(_message.Message):
    __slots__ = ("first", "last")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("run", "models", "committed", "failed", "ranges", "manifest_version")
    RUN_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_VERSION_FIELD_NUMBER: _ClassVar[int]
    run: str
    models: int
    committed: int
    failed: int
    ranges: _containers.RepeatedCompositeFieldContainer[IndexRange]
    manifest_version: int
    def __init__(self, run: _Optional[str] = ..., models: _Optional[int] = ..., committed: _Optional[int] = ..., failed: _Optional[int] = ..., ranges: _Optional[_Iterable[_Union[IndexRange, _Mapping]]] = ..., manifest_version: _Optional[int] = ...) -> None: ...

class GetProgressRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class GetProgressResponse(_message.Message):
    __slots__ = ("progress",)
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ...) -> None: ...

class WatchRunRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class WatchRunResponse(_message.Message):
    __slots__ = ("progress",)
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ...) -> None: ...

class PublishManifestRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class PublishManifestResponse(_message.Message):
    __slots__ = ("manifest_version",)
    MANIFEST_VERSION_FIELD_NUMBER: _ClassVar[int]
    manifest_version: int
    def __init__(self, manifest_version: _Optional[int] = ...) -> None: ...
