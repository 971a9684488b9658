"""Data sets of images, and ResNets that train on them, on a GPU if there is one."""

from datamodels.train.images.load import load_digits, load_folder, load_npy, load_npz

__all__ = ["load_digits", "load_folder", "load_npy", "load_npz"]
