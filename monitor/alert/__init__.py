"""What leaves the log: signed deliveries to webhooks."""
