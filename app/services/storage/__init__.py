"""The object store: its protocol, its peers, keys, links and archives."""
