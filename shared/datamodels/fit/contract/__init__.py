"""Define what all estimators share: their call, which targets can be fitted, and the choice of lambda."""
