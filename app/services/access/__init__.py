"""Who may do what: keys, tenants, and the door that is open until there is a key."""
