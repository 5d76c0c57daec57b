"""Files as bad as files get, through ingest and prepare: each refused by name, or whole pixels."""
