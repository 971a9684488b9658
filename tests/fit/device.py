"""An array module that is as strict as one of a GPU, and is NumPy: what runs with it mixes up no memories.

Its arrays are no NumPy arrays to anybody: operations of both at once, or indices of the other kind, raise TypeError, as
CuPy's do. `asarray` and `asnumpy` alone carry over. Where CuPy is more generous (indices for `take`), so is it.
"""

import types

import numpy as np


class Array(np.ndarray):
    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        bare = [_bare(x) for x in inputs]
        if out is not None:
            options["out"] = tuple(_bare(x) for x in out)
        if "where" in options:
            options["where"] = _bare(options["where"])
        found = getattr(ufunc, method)(*bare, **options)
        if out is not None:
            return out[0]
        return tuple(map(_device, found)) if isinstance(found, tuple) else _device(found)

    def __array_function__(self, function, kinds, arguments, options):
        return _lifted(function)(*arguments, **options)

    def __getitem__(self, key):
        return super().__getitem__(_index(key))

    def __setitem__(self, key, value):
        super().__setitem__(_index(key), _bare(value))

    def take(self, indices, axis=None):
        return _device(np.asarray(self.view(np.ndarray)).take(indices, axis=axis))


def _device(value):
    return np.asarray(value).view(Array)


def _bare(value):
    if isinstance(value, Array):
        return value.view(np.ndarray)
    if isinstance(value, np.ndarray):
        raise TypeError("a NumPy array among arrays of the device")
    return value


def _index(key):
    parts = key if isinstance(key, tuple) else (key,)
    bare = tuple(_bare(part) for part in parts)
    return bare if isinstance(key, tuple) else bare[0]


def _lifted(function):
    """The function of NumPy for arrays of the device alone."""

    def call(*arguments, **options):
        found = function(*map(_deep, arguments), **{name: _deep(value) for name, value in options.items()})
        return _device(found) if isinstance(found, np.ndarray | np.generic) else found

    return call


def _deep(value):
    return type(value)(map(_deep, value)) if isinstance(value, list | tuple) else _bare(value)


class Module(types.ModuleType):
    """numpy, for arrays of the device."""

    float32, float64, inf, nan = np.float32, np.float64, np.inf, np.nan
    linalg = types.SimpleNamespace(norm=_lifted(np.linalg.norm))

    def __getattr__(self, name):
        return _lifted(getattr(np, name))

    @staticmethod
    def asarray(value, dtype=None):
        return _device(np.array(value.view(np.ndarray) if isinstance(value, Array) else value, dtype=dtype))

    @staticmethod
    def asnumpy(value):
        return np.array(value.view(np.ndarray))


strict = Module("strict")
