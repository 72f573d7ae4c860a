"""What every reconciler works with: the cache that it reads, the children that it writes, the status that it reports."""
