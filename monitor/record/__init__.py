"""The match log in PostgreSQL: matches, their events and hits, streams, gaps, and the outbox of deliveries."""
