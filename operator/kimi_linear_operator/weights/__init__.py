"""KimiLinearWeights: the model on a volume."""
