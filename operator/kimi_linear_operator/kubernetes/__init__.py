"""What all resources share: metadata, pod templates, conditions, rules, definitions. Nothing here names a resource."""
