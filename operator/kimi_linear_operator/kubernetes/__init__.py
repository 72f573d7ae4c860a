"""What every resource shares: kinds, metadata, pod templates, conditions, rules, definitions. No resource is named here."""
