"""KimiLinearServer: its spec, its rules, its children, and its reconciler."""
