"""The object store: interface, implementations, keys, links and archives."""
