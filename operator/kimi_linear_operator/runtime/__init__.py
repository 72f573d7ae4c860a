"""The running operator: kopf's watches, the workers, and the queue between them."""
