"""Redis: request rates that are exact across processes, and the news of changes."""
