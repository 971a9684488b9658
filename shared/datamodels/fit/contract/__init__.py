"""What all estimators share: how they are called, which targets they can fit, and how they choose lambda."""
