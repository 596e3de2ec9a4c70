"""Webhooks and the log of events: receivers, deliveries, replays, and requests to addresses that clients choose."""
