"""What every resource shares: metadata, pod templates, conditions, rules, definitions. No resource is named here."""
