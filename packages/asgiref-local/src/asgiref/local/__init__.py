"""threading.local that also understands asyncio tasks and follows values across the sync/async bridge."""
