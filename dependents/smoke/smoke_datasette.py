import asyncio

from datasette.app import Datasette


def test_a_query_of_a_database_in_memory_answers():
    async def fetch():
        datasette = Datasette(memory=True)
        response = await datasette.client.get("/_memory.json?sql=select+1+as+one&_shape=array")
        return response.json()

    assert asyncio.run(fetch()) == [{"one": 1}]
