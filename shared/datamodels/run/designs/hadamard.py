"""Draw halves of columns from Hadamard matrices: subsets that overlap by half with each other, as nearly as can be.

Of a Hadamard matrix, any two rows, and any two columns, agree in exactly half of their entries. So every example is in
half of the subsets with every other example, and the effects of examples are told apart with fewer models than at
random (Plackett and Burman 1946). For a prime q = 4 k - 1, Paley (1933) gives a matrix of order q + 1: row r has 1 in
column c + 1 if c - r is a square modulo q. Its first row is constant and is left out; each other row has two equal
halves. Such primes are frequent, so the matrix is little larger than the number of columns. Surplus columns are cut;
then sizes of subsets have a standard deviation of about half the square root of the number of columns that are cut.

Block b has the q rows of one matrix, in random order and with random signs; a Philox generator keyed by the seed and b
shuffles its columns.
"""

from __future__ import annotations

import functools

import numpy as np

LEAST = 3
"""Columns below which a row may be constant."""
_BLOCKS = np.uint64(2**63)
"""Added to the number of a block, so that no block shares its generator with a subset that is drawn at random."""


def half(seed: int, columns: int, index: int) -> np.ndarray:
    """Return bool[columns]: which columns, at least LEAST of them, are in subset `index`."""
    q = _prime(columns)
    block, row = divmod(index, q)
    places, rows, signs = _shuffled(seed, q, block)
    return _row(q, int(rows[row]))[places[:columns]] ^ signs[row]


@functools.lru_cache(maxsize=16)
def _prime(columns: int) -> int:
    """Return the smallest prime q = 4 k - 1 whose matrix has at least this many columns."""
    q = max(3, columns - 1)
    q += (3 - q) % 4
    while any(q % factor == 0 for factor in range(3, int(q**0.5) + 1, 2)):
        q += 4
    return q


@functools.lru_cache(maxsize=4)
def _squares(q: int) -> np.ndarray:
    """Return bool[2 q]: which numbers are squares modulo q, zero included."""
    squares = np.zeros(q, dtype=bool)
    squares[np.arange(q, dtype=np.int64) ** 2 % q] = True
    return np.tile(squares, 2)


def _row(q: int, row: int) -> np.ndarray:
    """Return bool[q + 1]: row + 1 of the matrix of order q + 1, where True stands for 1 and False for -1."""
    return np.concatenate([[False], _squares(q)[q - row : 2 * q - row]])


@functools.lru_cache(maxsize=16)
def _shuffled(seed: int, q: int, block: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the order of the columns, int[q + 1], that of the rows, int[q], and their signs, bool[q], in a block."""
    bits = np.random.Philox(key=np.array([seed, _BLOCKS + np.uint64(block)], dtype=np.uint64))
    return _order(bits, q + 1), _order(bits, q), bits.random_raw(q) >> np.uint64(63) == 1


def _order(bits: np.random.BitGenerator, count: int) -> np.ndarray:
    """Return a random order of `count` things. Ties are broken by position, so it is the same everywhere."""
    return np.argsort(bits.random_raw(count), kind="stable")
