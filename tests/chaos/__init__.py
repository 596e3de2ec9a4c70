"""The fault matrix: real processes are killed, cut off and misled while jobs run; no accepted job may be lost."""
