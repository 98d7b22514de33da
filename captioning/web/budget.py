"""What all pages together may upload, counted while it arrives: an ASGI middleware, for streamlit.App.

    app = streamlit.App("page.py", middleware=[Middleware(Budget, held=held_by_streamlit)])

Streamlit limits each file; how many there are is up to who sends them, and no script runs before all have arrived.
"""

from collections.abc import Callable

from starlette.exceptions import HTTPException

SERVER_MB = 500  # 24 people with a file of 20 MB each


class Budget:
    """Answers 413 to an upload that would take what is held, and what arrives at the same time, above `at_most` bytes; the others are not touched.

    held: the bytes that are kept at present, as `held_by_streamlit` counts them. What is refused is let go at once. Above the budget there is for a moment
    one copy more of each file that is just complete, between its last byte and its place among the kept.
    """

    def __init__(self, app: Callable, held: Callable[[], int], at_most: int = SERVER_MB * 2**20):
        self.app, self.held, self.at_most = app, held, at_most
        self.arriving = 0  # bytes; uvicorn runs all requests in one thread

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http" or scope["method"] != "PUT":
            await self.app(scope, receive, send)
            return
        mine = 0

        def let_go() -> None:
            nonlocal mine
            self.arriving, mine = self.arriving - mine, 0

        async def counted() -> dict:
            nonlocal mine
            message = await receive()
            size = len(message.get("body", b""))
            self.arriving, mine = self.arriving + size, mine + size
            if self.held() + self.arriving > self.at_most:
                let_go()
                raise HTTPException(413, f"All pages together hold {self.at_most // 2**20} MB at most; try again when others have gone")
            return message

        async def told(message: dict) -> None:
            let_go()  # who answers has stored the file, and `held` counts it from now on
            await send(message)

        try:
            await self.app(scope, counted, told)
        finally:
            let_go()


def held_by_streamlit() -> int:
    """Bytes of all uploads that the running server keeps."""
    from streamlit import runtime

    kept = runtime.get_instance().uploaded_file_mgr.get_stats()
    return sum(stat.byte_length for stats in kept.values() for stat in stats)
