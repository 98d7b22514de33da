"""A page of a Streamlit app without a browser: one session over Streamlit's own wire (version 1.67), protobuf on a websocket and files by HTTP PUT.

with Session("http://localhost:8501") as session:
    session.run()                                    # the first run of the script
    session.upload("Photos: ...", ("a.png", data))   # by the uploader's label; runs the script again
    session.html                                     # what st.html wrote in that run
"""

import secrets
import urllib.parse
import urllib.request

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Common_pb2 import FileURLs
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

LONGEST = 2**26
EARLY = ForwardMsg.FINISHED_EARLY_FOR_RERUN  # st.rerun: the script runs once more


class Session:
    def __init__(self, address: str, patience: float = 60.0):
        self.address, self.patience = address, patience
        self.socket = connect(
            f"ws{address.removeprefix('http')}/_stcore/stream", subprotocols=["streamlit"], origin=address, max_size=LONGEST
        )
        self.id, self.uploaders, self.html, self.progress = "", {}, [], []

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()

    def run(self, back: BackMsg | None = None) -> None:
        """Run the script, with these widgets' states, and read what it sends until it has finished."""
        if back is None:
            back = BackMsg()
            back.rerun_script.query_string = ""
        self.socket.send(back.SerializeToString())
        while (message := self._receive()).WhichOneof("type") != "script_finished" or message.script_finished == EARLY:
            if message.WhichOneof("type") == "new_session":
                self.id = message.new_session.initialize.session_id
                self.html, self.progress = [], []
            element = message.delta.new_element
            kind = element.WhichOneof("type")
            if kind == "file_uploader":
                self.uploaders[element.file_uploader.label] = element.file_uploader.id
            elif kind == "html":
                self.html.append(element.html.body)
            elif kind == "progress":
                self.progress.append(element.progress.text)
            elif kind == "exception":
                raise AssertionError(element.exception.message)

    def upload(self, label: str, *files: tuple[str, bytes]) -> None:
        back = BackMsg()
        state = back.rerun_script.widget_states.widgets.add()
        state.id = self.uploaders[label]
        for name, data in files:
            urls = self.put(name, data)
            info = state.file_uploader_state_value.uploaded_file_info.add()
            info.name, info.size, info.file_id = name, len(data), urls.file_id
            info.file_urls.CopyFrom(urls)
        self.run(back)

    def put(self, name: str, data: bytes) -> FileURLs:
        """Send a file and do not tell the script. Raises OSError where the server does not take it."""
        back = BackMsg()
        back.file_urls_request.request_id = secrets.token_hex(8)
        back.file_urls_request.session_id = self.id
        back.file_urls_request.file_names.append(name)
        self.socket.send(back.SerializeToString())
        while (message := self._receive()).WhichOneof("type") != "file_urls_response":
            pass
        (urls,) = message.file_urls_response.file_urls
        mark = secrets.token_hex(16)
        head = f'--{mark}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\nContent-Type: image/png\r\n\r\n'
        body = head.encode() + data + f"\r\n--{mark}--\r\n".encode()
        self._ask("PUT", urls.upload_url, body, f"multipart/form-data; boundary={mark}")
        return urls

    def take_back(self, urls: FileURLs) -> None:
        self._ask("DELETE", urls.delete_url)

    def _receive(self) -> ForwardMsg:
        message = ForwardMsg()
        message.ParseFromString(self.socket.recv(timeout=self.patience))
        return message

    def _ask(self, method: str, url: str, body: bytes | None = None, kind: str = "text/plain") -> None:
        with urllib.request.urlopen(f"{self.address}/_stcore/health") as answer:
            cookie = answer.headers["Set-Cookie"].partition(";")[0]
        headers = {"Content-Type": kind, "Cookie": cookie, "X-Xsrftoken": urllib.parse.unquote(cookie.partition("=")[2])}
        urllib.request.urlopen(urllib.request.Request(self.address + url, body, headers, method=method), timeout=self.patience).read()
