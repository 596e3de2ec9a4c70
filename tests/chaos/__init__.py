"""The fault matrix: while jobs run, processes are killed and servers and networks fail; no accepted job may be lost."""
