"""What pages may upload, counted while it arrives: an ASGI middleware, for streamlit.App.

    app = streamlit.App("page.py", middleware=[Middleware(Budget, held=held_by_streamlit)])

Streamlit limits each file; how many there are is up to who sends them, and no script runs before all have arrived.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

from starlette.exceptions import HTTPException

SERVER_MB = 500  # 24 people with a file of 20 MB each
PAGE_MB = 250  # of one page: what a page may keep (captioning.web.uploads), and some that it is about to refuse
PATIENCE = 60.0  # seconds without a byte, after which an upload is given up


class Budget:
    """Answers 413 to an upload that would take what is held, and what arrives at the same time, above `at_most` bytes, or above `a_page` bytes of its page;
    408 to one that stands still. The others are not touched.

    held: the bytes that are kept at present by page, as `held_by_streamlit` counts them. What is refused is let go at once. Above the budget there is for a
    moment one copy more of each file that is just complete, between its last byte and its place among the kept. A page is whatever calls itself one: two pages
    can still fill the server, and then all others wait until those are closed.
    """

    def __init__(
        self,
        app: Callable,
        held: Callable[[], Mapping[str, int]],
        at_most: int = SERVER_MB * 2**20,
        a_page: int = PAGE_MB * 2**20,
        patience: float = PATIENCE,
    ):
        self.app, self.held, self.at_most, self.a_page, self.patience = app, held, at_most, a_page, patience
        self.arriving: Counter[str] = Counter()  # bytes by page; uvicorn runs all requests in one thread

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http" or scope["method"] != "PUT":
            await self.app(scope, receive, send)
            return
        page, mine = page_of(scope["path"]), 0

        def let_go() -> None:
            nonlocal mine
            self.arriving[page] -= mine
            self.arriving, mine = +self.arriving, 0  # without pages at 0

        async def counted() -> dict:
            nonlocal mine
            try:
                message = await asyncio.wait_for(receive(), self.patience)
            except TimeoutError as error:
                raise HTTPException(408, f"No byte for {self.patience:.0f} s; try again") from error
            size = len(message.get("body", b""))
            self.arriving[page] += size
            mine += size
            held = self.held()
            if sum(held.values()) + self.arriving.total() > self.at_most:
                raise HTTPException(413, f"All pages together hold {self.at_most // 2**20} MB at most; try again when others have gone")
            if held.get(page, 0) + self.arriving[page] > self.a_page:
                raise HTTPException(413, f"A page holds {self.a_page // 2**20} MB at most; remove some photos first")
            return message

        async def told(message: dict) -> None:
            let_go()  # who answers has stored the file, and `held` counts it from now on
            await send(message)

        try:
            await self.app(scope, counted, told)
        finally:
            let_go()


def page_of(path: str) -> str:
    """The page that an upload is for: Streamlit's paths end in SESSION/FILE."""
    return path.rpartition("/")[0].rpartition("/")[2]


def held_by_streamlit() -> dict[str, int]:
    """Bytes of all uploads that the running server keeps, by page."""
    from streamlit import runtime

    kept = dict(runtime.get_instance().uploaded_file_mgr.file_storage)  # a copy: scripts run in other threads
    return {page: sum(len(file.data) for file in list(files.values())) for page, files in kept.items()}
