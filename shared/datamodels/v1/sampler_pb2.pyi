from datamodels.v1 import types_pb2 as _types_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetSubsetsRequest(_message.Message):
    __slots__ = ("design", "first", "last")
    DESIGN_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    design: _types_pb2.Design
    first: int
    last: int
    def __init__(self, design: _Optional[_Union[_types_pb2.Design, _Mapping]] = ..., first: _Optional[int] = ..., last: _Optional[int] = ...) -> None: ...

class GetSubsetsResponse(_message.Message):
    __slots__ = ("first", "masks")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    MASKS_FIELD_NUMBER: _ClassVar[int]
    first: int
    masks: _types_pb2.Tensor
    def __init__(self, first: _Optional[int] = ..., masks: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ...) -> None: ...

class DescribeDesignRequest(_message.Message):
    __slots__ = ("design",)
    DESIGN_FIELD_NUMBER: _ClassVar[int]
    design: _types_pb2.Design
    def __init__(self, design: _Optional[_Union[_types_pb2.Design, _Mapping]] = ...) -> None: ...

class DescribeDesignResponse(_message.Message):
    __slots__ = ("columns", "size", "mask_bytes", "inclusion", "summary")
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    MASK_BYTES_FIELD_NUMBER: _ClassVar[int]
    INCLUSION_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    columns: int
    size: int
    mask_bytes: int
    inclusion: _types_pb2.Tensor
    summary: str
    def __init__(self, columns: _Optional[int] = ..., size: _Optional[int] = ..., mask_bytes: _Optional[int] = ..., inclusion: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., summary: _Optional[str] = ...) -> None: ...
