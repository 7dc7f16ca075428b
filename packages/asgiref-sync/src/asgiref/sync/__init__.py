"""Call blocking code from asyncio and coroutines from blocking code: sync_to_async and async_to_sync."""
