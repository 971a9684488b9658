"""Solve LASSO paths for `peers.Adelie`, in a Python that has adelie: python adelie_paths.py GIVEN.npz MADE.npz"""

import sys
import time

import adelie
import numpy as np

with np.load(sys.argv[1]) as given:
    gram, products, lambdas, lengths, tolerance = (
        given[name] for name in ("gram", "products", "lambdas", "lengths", "tolerance")
    )
weights = np.zeros((*lambdas.shape, len(gram)))
gram = adelie.matrix.dense(np.asfortranarray(gram), method="cov")
start = time.process_time()
for j, (product, path, length) in enumerate(zip(products, lambdas, lengths, strict=True)):
    state = adelie.solver.gaussian_cov(
        gram, product, lmda_path=path[:length], tol=float(tolerance), early_exit=False, progress_bar=False
    )
    weights[j, :length] = state.betas.toarray()
np.savez(sys.argv[2], weights=weights, seconds=time.process_time() - start)
