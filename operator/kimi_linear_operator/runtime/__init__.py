"""The running operator: kopf's watches on one side, workers on the other, a queue between them."""
