"""What all reconcilers share: the cache that they read, and the children and status that they write."""
