import os
import signal

import numpy as np
import pytest

from datamodels.run import user_code

MODULE = """
import json, numpy as np
def own():
    raise ValueError("no such column")
def library():
    return json.loads("{")
def package():
    return np.linalg.inv(np.zeros((2, 2)))
def generated():
    exec("raise KeyError('a')")
def nested():
    own()
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MODULE)
    found = {}
    exec(compile(MODULE, str(path), "exec"), found)
    return found


@pytest.mark.parametrize(
    ("name", "line"), [("own", 4), ("library", 6), ("package", 8), ("generated", 10), ("nested", 4)]
)
def test_the_place_is_the_last_one_in_the_users_own_file(mine, tmp_path, name, line, monkeypatch):
    with pytest.raises(Exception) as raised:
        mine[name]()
    function = "own" if name == "nested" else name
    error = raised.value.with_traceback(raised.value.__traceback__.tb_next)  # without this test
    assert user_code.where(error) == f"{tmp_path}{os.sep}mine.py:{line} in {function}"
    monkeypatch.chdir(tmp_path)
    assert user_code.where(error) == f"mine.py:{line} in {function}"
    assert "\n" not in user_code.why(error) and user_code.why(error).endswith(f"(mine.py:{line} in {function})")


def test_what_is_raised_in_a_package_that_the_user_did_not_write_is_named_too():
    with pytest.raises(np.linalg.LinAlgError) as raised:
        np.linalg.inv(np.zeros((2, 2)))
    error = raised.value.with_traceback(raised.value.__traceback__.tb_next)
    assert user_code.where(error).startswith(f"numpy{os.sep}linalg{os.sep}")


def test_a_syntax_error_has_the_place_where_it_is():
    with pytest.raises(SyntaxError) as raised:
        compile("a =", "mine.py", "exec")
    assert user_code.where(raised.value) == "mine.py:1"


def test_an_error_of_a_call_itself_has_no_place(mine):
    try:
        mine["own"](1)
    except TypeError as error:
        assert user_code.where(error.with_traceback(None)) == ""


def test_sources_of_compiled_modules_are_not_the_users():
    """Cython names them in tracebacks, by paths as they were where the module was compiled."""
    frames = [("/home/me/mine.py", 7, "load"), ("/usr/lib/x/site-packages/pandas/frame.py", 4, "get")]
    frames.append(("pandas/_libs/hashtable_class_helper.pxi", 7090, "get_item"))
    assert user_code.place(frames) == "/home/me/mine.py:7 in load"


def test_a_machine_without_memory_has_a_place(mine, tmp_path):
    with pytest.raises(MemoryError) as raised:
        exec(compile("\n\nnp.zeros(10**15)", str(tmp_path / "mine.py"), "exec"), mine)
    error = raised.value.with_traceback(raised.value.__traceback__.tb_next)
    assert user_code.why(error).endswith(f"({tmp_path}{os.sep}mine.py:3 in <module>)")


def test_of_a_network_without_code_of_the_user_the_layer_is_named(tmp_path):
    """As of nn.Sequential, through which an error passes only PyTorch."""
    found = {}
    for file, text in {
        "linear.py": "def forward():\n    raise RuntimeError('shapes')",
        "module.py": "def _call_impl():\n    return forward()",
    }.items():
        path = tmp_path / "site-packages" / "torch" / file
        exec(compile(text, str(path), "exec"), found)
    with pytest.raises(RuntimeError) as raised:
        found["_call_impl"]()
    error = raised.value.with_traceback(raised.value.__traceback__.tb_next)
    assert user_code.where(error) == os.path.join("torch", "linear.py:2 in forward")


def test_only_an_interrupt_that_code_raises_is_a_fault_of_the_code():
    with pytest.raises(KeyboardInterrupt) as raised:
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        user_code.pass_on(raised.value)
    with pytest.raises(KeyboardInterrupt) as raised:
        raise KeyboardInterrupt
    user_code.pass_on(raised.value)
    user_code.pass_on(ValueError())
