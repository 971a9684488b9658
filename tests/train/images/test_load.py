import numpy as np
import pytest

from datamodels.errors import SpecError
from datamodels.train import images
from datamodels.train.images import load

PARTS = {
    "x": np.random.default_rng(0).integers(0, 256, (6, 5, 7, 3), dtype=np.uint8),
    "y": np.arange(6) % 2,
    "x_test": np.zeros((2, 5, 7, 3), dtype=np.uint8),
    "y_test": np.array([1, 0]),
}


def test_loaders_are_imported_from_the_package():
    for name in ("load_digits", "load_folder", "load_npy", "load_npz"):
        assert getattr(images, name) is getattr(load, name)


def test_digits_are_enlarged_between_their_corners():
    data, small = load.load_digits(size=32), load.digits.load()
    assert data.x.shape == (1400, 32, 32, 3) and data.x.dtype == np.uint8 and data.x_test.shape == (397, 32, 32, 3)
    assert data.image_shape == (32, 32, 3) and data.image_max == 255
    assert (data.x[..., :1] == data.x).all()
    grey = small.x.reshape(-1, 8, 8)
    np.testing.assert_array_equal(data.x[:, ::31, ::31, 0], np.rint(grey[:, ::7, ::7] * 255))
    between = load.load_digits(size=15).x[:, :, :, 0]  # every other pixel is one of the eight
    np.testing.assert_array_equal(between[:, ::2, ::2], np.rint(grey * 255))
    np.testing.assert_allclose(between[:, 1, 0], (grey[:, 0, 0] + grey[:, 1, 0]) / 2 * 255, atol=0.5 + 1e-3)
    with pytest.raises(SpecError, match="size = 4: must be at least 8"):
        load.load_digits(size=4)


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_arrays_come_back_as_they_were_saved(tmp_path, kind):
    if kind == "npz":
        np.savez(tmp_path / "data.npz", **PARTS)
        data = load.load_npz(str(tmp_path / "data.npz"), label_names=("cat", "dog"))
    else:
        for name, part in PARTS.items():
            np.save(tmp_path / f"{name}.npy", part)
        data = load.load_npy(str(tmp_path), label_names=("cat", "dog"))
    for name, part in PARTS.items():
        np.testing.assert_array_equal(getattr(data, name), part)
    assert data.image_shape == (5, 7, 3) and data.label_names == ("cat", "dog")


def test_files_that_are_no_data_set_are_named(tmp_path):
    path = tmp_path / "data.npz"
    with pytest.raises(SpecError, match=r"data\.npz': cannot be read as \.npz: .*No such file"):
        load.load_npz(str(path))
    path.write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(SpecError, match=r"cannot be read as \.npz"):
        load.load_npz(str(path))
    np.savez(path, x=PARTS["x"], y=PARTS["y"])
    with pytest.raises(SpecError, match="has no x_test, y_test"):
        load.load_npz(str(path))
    np.savez(path, **(PARTS | {"x": PARTS["x"] / 255}))
    with pytest.raises(SpecError, match=r"x is float64\[6, 5, 7, 3\]: this trainer needs uint8"):
        load.load_npz(str(path))
    with pytest.raises(SpecError, match=r"x\.npy cannot be read"):
        load.load_npy(str(tmp_path / "nowhere"))


def test_folders_of_pictures_become_classes(tmp_path):
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")
    for part, name, file, colour in (
        ("train", "cat", "b.png", (255, 0, 0)),
        ("train", "cat", "a.jpg", (0, 0, 0)),
        ("train", "dog", "c.png", (0, 255, 0)),
        ("test", "dog", "d.png", (0, 0, 255)),
    ):
        (tmp_path / part / name).mkdir(parents=True, exist_ok=True)
        pillow.new("RGB", (20, 30), colour).save(tmp_path / part / name / file)
    data = load.load_folder(str(tmp_path), size=16)
    assert data.label_names == ("cat", "dog") and data.y.tolist() == [0, 0, 1] and data.y_test.tolist() == [1]
    assert data.x[:, 3, 3].tolist() == [[0, 0, 0], [255, 0, 0], [0, 255, 0]]
    (tmp_path / "train" / "cat" / "e.png").write_bytes(b"no picture")
    with pytest.raises(SpecError, match=r"e\.png cannot be read as an image"):
        load.load_folder(str(tmp_path), size=16)
    with pytest.raises(SpecError, match="has no folders train/CLASS"):
        load.load_folder(str(tmp_path / "train"), size=16)
