"""COUNT posts to URL, IN_FLIGHT at a time: encode JSON, POST, decode JSON.

usage: python3 aiohttp_client.py URL COUNT IN_FLIGHT TEXT
"""
import asyncio
import json
import sys

import aiohttp


async def main():
    url, count, in_flight, text = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    connector = aiohttp.TCPConnector(limit=in_flight)
    state = {"next": 0, "done": 0, "failed": 0}

    async def call(session, i):
        body = json.dumps({"model": "demo", "i": i, "max_tokens": 64,
                           "messages": [{"role": "user", "content": text}]})
        headers = {"Content-Type": "application/json"}
        async with session.post(url, data=body, headers=headers) as res:
            answer = json.loads(await res.read())
            return res.status == 200 and answer["usage"]["total_tokens"] == 28

    async def worker(session):
        while state["next"] < count:
            state["next"] += 1
            try:
                ok = await call(session, state["next"])
            except aiohttp.ClientError:
                ok = False
            state["done" if ok else "failed"] += 1

    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(worker(session) for _ in range(in_flight)))
    print(f"{state['done']} done, {state['failed']} failed")
    sys.exit(state["failed"] > 0 or state["done"] != count)


asyncio.run(main())
