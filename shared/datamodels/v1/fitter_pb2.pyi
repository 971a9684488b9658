from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FitRequest(_message.Message):
    __slots__ = ("run", "settings")
    RUN_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    run: str
    settings: str
    def __init__(self, run: _Optional[str] = ..., settings: _Optional[str] = ...) -> None: ...

class FitResponse(_message.Message):
    __slots__ = ("progress",)
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    progress: FitProgress
    def __init__(self, progress: _Optional[_Union[FitProgress, _Mapping]] = ...) -> None: ...

class WatchFitRequest(_message.Message):
    __slots__ = ("run", "digest")
    RUN_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    run: str
    digest: str
    def __init__(self, run: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class WatchFitResponse(_message.Message):
    __slots__ = ("progress",)
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    progress: FitProgress
    def __init__(self, progress: _Optional[_Union[FitProgress, _Mapping]] = ...) -> None: ...

class FitProgress(_message.Message):
    __slots__ = ("run", "digest", "state", "targets", "targets_done", "fraction", "seconds", "fit", "stage", "error", "exit_code", "remaining")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[FitProgress.State]
        STATE_RUNNING: _ClassVar[FitProgress.State]
        STATE_DONE: _ClassVar[FitProgress.State]
        STATE_FAILED: _ClassVar[FitProgress.State]
    STATE_UNSPECIFIED: FitProgress.State
    STATE_RUNNING: FitProgress.State
    STATE_DONE: FitProgress.State
    STATE_FAILED: FitProgress.State
    RUN_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_DONE_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    FIT_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    run: str
    digest: str
    state: FitProgress.State
    targets: int
    targets_done: int
    fraction: float
    seconds: float
    fit: int
    stage: str
    error: str
    exit_code: int
    remaining: float
    def __init__(self, run: _Optional[str] = ..., digest: _Optional[str] = ..., state: _Optional[_Union[FitProgress.State, str]] = ..., targets: _Optional[int] = ..., targets_done: _Optional[int] = ..., fraction: _Optional[float] = ..., seconds: _Optional[float] = ..., fit: _Optional[int] = ..., stage: _Optional[str] = ..., error: _Optional[str] = ..., exit_code: _Optional[int] = ..., remaining: _Optional[float] = ...) -> None: ...
