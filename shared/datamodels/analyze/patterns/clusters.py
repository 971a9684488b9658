"""Cluster weight vectors: find groups of similar targets, or of similar training examples.

Ilyas et al. 2022, section 5: spectral clustering on the RBF similarity of datamodel embeddings,

    w_ij = exp(-|a_i - a_j|^2 / (2 s^2))        a_i = theta_i / |theta_i|,   s = the median of |a_i - a_j|

where the median is over random pairs that share a column (the median rule). Vectors have unit length, because otherwise
targets with small weights would be near all others, whatever their columns. For each vector, only the similarities to
its `NEIGHBOURS` nearest are kept, and made symmetric by taking the larger one. So memory grows with n, not with n^2.
Lanczos iteration finds eigenvectors of D^-1/2 W D^-1/2 (Ng, Jordan and Weiss 2002). Pivoted QR assigns their rows to
clusters (Damle, Minden and Ying 2019); it needs no random start.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from datamodels.analyze.patterns.results import Clusters
from datamodels.analyze.quality.progress import Report
from datamodels.errors import InputError

NEIGHBOURS = 15
"""Similarities that are kept for each vector, those to the nearest others."""
MOST_BY_GAP = 20
"""Most clusters if the eigengap chooses their number."""
MOST = 100
"""Most clusters that can be asked for."""
DENSE = 800
"""Most vectors for which a dense solver finds the eigenvalues."""
BLOCK_BYTES = 64_000_000
"""Size of a block of products of some vectors with all."""
PAIRS = 20_000
"""Random pairs for the bandwidth."""
CENTRAL = 5
"""Members of a cluster that its result names, those most similar to the others."""
NO_CLUSTER = -1
"""Stands for the cluster of a vector that belongs to none: it has no weights, or shares no column with another. If the
graph of similarities has more than k components, vectors in the smallest components belong to none either."""


def clusters(
    vectors: sparse.csr_array | sparse.csc_array, *, k: int = 0, seed: int = 0, progress: Report = lambda fraction: None
) -> Clusters:
    """Cluster the rows of float[n, d].

    k         number of clusters; 0 chooses the number of eigenvalues before the widest gap, 2 to MOST_BY_GAP
    progress  called between steps with the fraction that is done; an exception in it stops the work

    The result may have fewer than k clusters. Raises InputError if k is below 0, is 1, is above MOST or above the
    number of rows that have weights and share columns with others, or if fewer than 3 rows do.
    """
    unit, rows = _unit(vectors)
    _check(k, len(rows), vectors.shape[0])
    graph, bandwidth = similarity(unit, seed=seed, progress=lambda fraction: progress(0.8 * fraction))
    connected = np.flatnonzero(np.diff(graph.indptr))
    graph, rows = graph[connected][:, connected], rows[connected]
    _check(k, len(rows), vectors.shape[0])
    wanted = min(len(rows), (k or MOST_BY_GAP) + 1)
    values, eigenvectors = leading(graph, wanted, seed=seed)
    progress(0.95)
    eigenvectors = eigenvectors[:, : k or by_gap(values)]
    inside = np.flatnonzero(np.linalg.norm(eigenvectors, axis=1) > 1e-12)
    graph, rows = graph[inside][:, inside], rows[inside]
    sizes, found = _by_size(_assigned(eigenvectors[inside]))
    cluster = np.full(vectors.shape[0], NO_CLUSTER, dtype=np.int32)
    cluster[rows] = found
    central = np.full((len(sizes), CENTRAL), -1, dtype=np.int32)
    members = sparse.csr_array((np.ones(len(rows)), (np.arange(len(rows)), found)), shape=(len(rows), len(sizes)))
    alike = (graph @ members).toarray()[np.arange(len(rows)), found]
    for c in range(len(sizes)):
        own = np.flatnonzero(found == c)
        first = own[np.argsort(-alike[own], kind="stable")][:CENTRAL]
        central[c, : len(first)] = rows[first]
    return Clusters(cluster, sizes, central, values, bandwidth)


def by_gap(values: np.ndarray) -> int:
    """Count the eigenvalues, in descending order, before the widest gap: at least 2, and fewer than all."""
    gaps = values[1:-1] - values[2:]
    return 2 + int(np.argmax(gaps)) if gaps.max() > 1e-9 else len(values) - 1


def _check(k: int, rows: int, n: int) -> None:
    if rows < 3:
        raise InputError(f"{rows} of {n} have weights and share columns with others: clusters need at least 3")
    most = min(MOST, rows)
    if k and not 2 <= k <= most:
        raise InputError(
            f"k = {k}: must be 2 to {most}, or 0 to choose it by the eigengap; {rows} of {n} have weights and share "
            "columns with others"
        )


def similarity(
    unit: sparse.csr_array, *, seed: int = 0, progress: Report = lambda fraction: None
) -> tuple[sparse.csr_array, float]:
    """Compute the symmetric RBF similarity of rows of unit length to their nearest rows.

    Returns (float64 CSR [n, n], bandwidth).
    """
    n = unit.shape[0]
    bandwidth = _median_distance(unit, seed)
    near, transposed = min(NEIGHBOURS, n - 1), unit.T.tocsr()
    index, cosine = np.empty((n, near), dtype=np.int32), np.empty((n, near), dtype=np.float32)
    size = max(1, BLOCK_BYTES // (4 * n))
    for first in range(0, n, size):
        rows = slice(first, min(first + size, n))
        product = (unit[rows] @ transposed).toarray()
        product[np.arange(len(product)), np.arange(rows.start, rows.stop)] = -np.inf
        nearest = np.argpartition(-product, near - 1, axis=1)[:, :near]
        index[rows], cosine[rows] = nearest, np.take_along_axis(product, nearest, axis=1)
        progress(rows.stop / n)
    row, column = np.nonzero(cosine > 0)
    weight = np.exp((cosine[row, column].astype(np.float64) - 1) / bandwidth**2)
    graph = sparse.csr_array((weight, (row, index[row, column])), shape=(n, n))
    return graph.maximum(graph.T).tocsr(), bandwidth


def _unit(vectors: sparse.csr_array | sparse.csc_array) -> tuple[sparse.csr_array, np.ndarray]:
    """Return (the rows that have weights, scaled to unit length, float32; their indices)."""
    vectors = vectors.tocsr().astype(np.float32)
    lengths = np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=1), dtype=np.float64)).ravel()
    rows = np.flatnonzero(lengths)
    return sparse.csr_array(sparse.diags_array((1 / lengths[rows]).astype(np.float32)) @ vectors[rows]), rows


def _median_distance(unit: sparse.csr_array, seed: int) -> float:
    """Return the median distance of random pairs that share a column, or of all pairs if none does. It is positive."""
    rng, n = np.random.default_rng(seed), unit.shape[0]
    a, b = rng.integers(n, size=PAIRS), rng.integers(n - 1, size=PAIRS)
    b += b >= a
    cosine = np.asarray(unit[a].multiply(unit[b]).sum(axis=1)).ravel()
    shared = cosine != 0
    chosen = cosine[shared] if shared.any() else cosine
    return float(np.sqrt(2 * max(1 - np.median(chosen), 1e-6)))


def leading(graph: sparse.csr_array, count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Find the largest eigenvalues of D^-1/2 W D^-1/2: (float64[count] descending, eigenvectors float64[n, count]).

    Each connected component has the eigenvalue 1, whose eigenvector has the square roots of its degrees. These are
    known in advance, the largest components first. Lanczos finds only the others, because it does not see the
    multiplicity of an eigenvalue. Every row must have a neighbour.
    """
    from scipy.sparse import csgraph, linalg

    n = graph.shape[0]
    root = np.sqrt(np.asarray(graph.sum(axis=1)).ravel())
    scale = sparse.diags_array(1 / root)
    normalised = sparse.csr_array(scale @ graph @ scale)
    parts, part = csgraph.connected_components(graph, directed=False)
    largest = np.argsort(-np.bincount(part), kind="stable")[:count]
    known = np.stack([np.where(part == p, root, 0.0) for p in largest], axis=1)
    known /= np.linalg.norm(known, axis=0)
    rest = count - len(largest)
    if not rest:
        return np.ones(count), known
    if n <= DENSE or rest >= n:
        values, vectors = np.linalg.eigh(normalised.toarray() - 3 * known @ known.T)  # below all others, at -2
        values, vectors = values[n - rest :], vectors[:, n - rest :]
    else:
        start = np.random.default_rng(seed).normal(size=n)
        operator = linalg.LinearOperator(
            (n, n), matvec=lambda v: normalised @ v - 3 * known @ (known.T @ v), dtype=np.float64
        )
        values, vectors = linalg.eigsh(operator, k=rest, which="LA", v0=start, tol=1e-8)
    return np.concatenate([np.ones(parts), values[::-1]]), np.concatenate([known, vectors[:, ::-1]], axis=1)


def _assigned(vectors: np.ndarray) -> np.ndarray:
    """Return int[n]: clusters, from eigenvectors [n, k]."""
    from scipy import linalg

    # Rows are not scaled to unit length: if they were, all could be the first pivot, and rounding would choose.
    _, _, pivots = linalg.qr(vectors.T, mode="economic", pivoting=True)
    left, _, right = np.linalg.svd(vectors[pivots[: vectors.shape[1]]].T)
    return np.argmax(np.abs(vectors @ (left @ right)), axis=1)


def _by_size(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number clusters by size, the largest first. Returns (sizes int32[k] without zeros, clusters int[n])."""
    sizes = np.bincount(found)
    order = np.argsort(-sizes, kind="stable")
    renamed = np.argsort(order)
    return sizes[order][sizes[order] > 0].astype(np.int32), renamed[found]
