"""A server of Kimi-Linear: its spec and rules, the objects it consists of, and how it is reconciled."""
