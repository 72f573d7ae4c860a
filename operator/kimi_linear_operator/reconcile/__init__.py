"""What every reconciler works with: the cache that it reads, the children and the status that it writes."""
