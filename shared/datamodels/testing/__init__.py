"""Help to test against this package: docs/guides/testing.md.

committed, fitted  runs with outputs, and with weights, that no model was trained for
linear             a data set and trainers whose datamodels are known
server             the query service in this process, over given weights
stores             the tests that every object store must pass; this module alone needs pytest and Hypothesis
reference          a slow, plain LASSO to compare solvers with
"""
