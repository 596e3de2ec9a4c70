"""Who may do what: keys, tenants, and open access until there is a first key."""
