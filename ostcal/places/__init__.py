"""Where bytes live: paths, object stores, locks, durable and open files."""
