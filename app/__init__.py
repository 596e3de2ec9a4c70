"""PixTools: self-hosted, asynchronous image processing."""
