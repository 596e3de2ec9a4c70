"""Access control: keys, tenants, and open access until the first key is made."""
