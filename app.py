"""The web demo: drop photos, take one or pick one, see what a captioner says and where it looked at each word.

    streamlit run app.py
    streamlit run app.py -- --checkpoints results/flickr8k/checkpoints

Reads checkpoints (default: those that caption.py would find) and what is uploaded; writes nothing. Photos are in memory only, as long as their page is
open; the uploads of all pages together have a limit (captioning/web/budget.py). What a page keeps besides, its answers, is counted, not weighed: a small
picture and a map a word, ANSWERS_KEPT times at most, for each page that is open.
Nothing is fetched: .streamlit/config.toml keeps Streamlit itself from asking anyone.

Streamlit imports this file once for the server, `app`, and runs it as `__main__` for every page.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

import streamlit as st
from starlette.formparsers import MultiPartParser
from starlette.middleware import Middleware
from streamlit.runtime.scriptrunner import get_script_run_ctx

from captioning.bad_input import BadInput
from captioning.checkpoint_list import find_checkpoints
from captioning.config import Decode
from captioning.systems import MAP_KINDS
from captioning.web import markup
from captioning.web.answers import Answer, answer, say
from captioning.web.budget import SERVER_MB, Budget, held_by_streamlit
from captioning.web.checkpoints import Offer, load_here, offers, offers_in
from captioning.web.examples import examples
from captioning.web.score import differs, score_typed
from captioning.web.table import Row, to_coco_results, to_csv
from captioning.web.turns import Turns
from captioning.web.uploads import LIMIT_MB, LIMIT_MEGAPIXELS, MOST_FILES, Upload, check_together, open_upload

LOADED_AT_MOST = 4  # models in memory, of all pages together
ANSWERS_KEPT = 2 * MOST_FILES + 50  # of one page: the captions of two checkpoints, and what was looked into
SOURCES = ("Files", "Camera", "Examples")

# Starlette would lay a file above 1 MB down on disk while it arrives.
MultiPartParser.spool_max_size = (LIMIT_MB + 1) * 2**20


@st.cache_resource
def the_turns() -> Turns:
    """One for the whole server: one photo is opened and captioned at a time, whoever asks."""
    return Turns()


@st.cache_resource(max_entries=LOADED_AT_MOST, show_spinner=False)
def captioner_of(path: Path, version: int, weights: str):
    """One model for all pages. Called by who has the turn, so two are never loaded at once."""
    return load_here(path, weights)


def main() -> None:
    st.set_page_config("ReCap: caption a photo", layout="wide", menu_items={"About": None})
    st.html(markup.STYLE)
    st.title("Caption a photo")
    try:
        options = parse_options()
        offered = offers_in(Path(options.checkpoints)) if options.checkpoints else offers(find_checkpoints(options.weights))
    except BadInput as error:
        st.html(markup.bad(str(error)))
        return
    if not offered:
        say_how_to_get_one(options)
        return
    chosen, decode = choose_settings(offered)
    uploads = choose_photos(chosen[0])
    questions = Questions(chosen, decode, options.weights)
    if len(uploads) > 1:
        uploads = show_table(uploads, questions)
    if uploads:
        shown = uploads[0] if len(uploads) == 1 else choose_one(uploads)
        answers = questions.ask(answer, [shown])
        if shown.digest in answers[0]:
            show_photo(shown, chosen, [found[shown.digest] for found in answers])


def parse_options() -> argparse.Namespace:
    """What stands after `--` on the command line. Raises BadInput."""
    parser = argparse.ArgumentParser(prog="streamlit run app.py --", add_help=False, allow_abbrev=False)
    parser.add_argument(
        "--checkpoints", metavar="DIR", help="a checkpoint, or a folder of checkpoints (default: those found under the project)"
    )
    parser.add_argument(
        "--weights", metavar="PLACE", default="pretrained", help="where an encoder's weights lie that a checkpoint only names"
    )
    parser.error = _refuse
    return parser.parse_args(sys.argv[1:])


def _refuse(reason: str) -> None:
    raise BadInput(f"{reason}; after streamlit run app.py -- there are --checkpoints DIR and --weights PLACE")


def say_how_to_get_one(options: argparse.Namespace) -> None:
    where = f"{options.checkpoints} holds no checkpoint." if options.checkpoints else "There is no checkpoint yet."
    st.html(markup.note(f"{where} This command makes some, from pictures that the project draws itself; then reload this page:"))
    st.code("python benchmarks/run_all.py", language="bash")


def choose_settings(offered: list[Offer]) -> tuple[list[Offer], Decode]:
    """The one or two checkpoints, and how they search."""
    with st.sidebar:
        st.header("Captioner")
        by_path = {str(offer.path): offer for offer in offered}
        labels = {path: offer.label for path, offer in by_path.items()}
        first = st.selectbox("Checkpoint", by_path, format_func=labels.get, help="Best on its validation images first.")
        second = st.selectbox("Compare with", [None, *by_path], format_func=lambda path: labels.get(path, "no other"))
        chosen = [by_path[path] for path in (first, second) if path is not None]

        st.header("Search")
        sample = False
        if any(offer.samples for offer in chosen):
            sample = st.toggle(
                "Draw words", help="A language model draws each word by its probability. Off: the likeliest caption is searched."
            )
        beam = st.slider(
            "Beam width",
            1,
            10,
            5,
            disabled=sample and all(offer.samples for offer in chosen),
            help="Captions searched side by side. 1 takes the likeliest word each time.",
        )
        longest = st.slider("Longest caption, in tokens", 3, 50, 50, help="A captioner that has fewer positions stops earlier.")
        if not sample:
            return chosen, Decode(beam=beam, max_words=longest, ban_unk=True)
        temperature = st.slider("Temperature", 0.1, 2.0, 1.0, 0.1, help="Below 1 the likely words gain, above 1 the unlikely ones.")
        top_p = st.slider("Top p", 0.05, 1.0, 0.9, 0.05, help="Only the likeliest words that hold this share of the probability.")
        top_k = st.slider("Top k", 0, 100, 0, help="Only the k likeliest words; 0 is off.")
        seed = st.number_input("Seed", 0, 2**31 - 1, 0, help="The same seed draws the same words.")
        return chosen, Decode(beam, longest, ban_unk=True, sample=True, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed)


def choose_photos(offer: Offer) -> list[Upload]:
    # The first checkpoint decides once; then it is the reader's choice.
    st.session_state.setdefault("source", "Examples" if offer.data == "demo" else "Files")
    source = st.radio("Photos from", SOURCES, key="source", horizontal=True)
    if offer.data == "demo" and source != "Examples":
        st.html(markup.note("This checkpoint was trained on drawn scenes and knows no photographs: its words will not fit them."))
    # Streamlit forgets the files of an uploader that is not in the page: this one is, out of sight.
    with st.container(key="files" if source == "Files" else "files-away"):
        files = choose_files()
    if source == "Examples":
        return choose_example(offer)
    if source == "Camera":
        taken = st.camera_input("Take a photo")
        return [Upload("camera", data) for _, data in _sent([taken] if taken else [])]
    return files


def choose_files() -> list[Upload]:
    """A photo that is given twice counts once."""
    round_ = st.session_state.setdefault("round", 0)
    files = st.file_uploader(
        "Photos: JPEG, PNG, GIF, WebP, TIFF, BMP or AVIF",
        accept_multiple_files=True,
        max_upload_size=LIMIT_MB,
        key=f"files-{round_}",
        help=f"At most {LIMIT_MB} MB and {LIMIT_MEGAPIXELS} megapixels each. They stay in this computer's memory until the page is closed. "
        f"Where all pages together have uploaded {SERVER_MB} MB, more cannot be taken.",
    )
    if refused := st.session_state.pop("refused", None):
        st.html(markup.bad(refused))
    try:
        check_together([file.size for file in files])
    except BadInput as error:
        # An uploader with a new key starts empty, but Streamlit would keep the files of the old one as long as the page is open.
        page = get_script_run_ctx()
        for file in files:
            page.uploaded_file_mgr.remove_file(page.session_id, file.file_id)
        st.session_state.update(round=round_ + 1, refused=str(error))
        st.rerun()
    return list({(upload.digest, upload.name): upload for upload in (Upload(name, data) for name, data in _sent(files))}.values())


def _sent(files: list) -> list[tuple[str, bytes]]:
    """(name, data) of uploaded files: the bytes that the server keeps. An element gives a copy, which would be kept as long as the photo is shown."""
    page = get_script_run_ctx()
    return [(file.name, file.data) for file in page.uploaded_file_mgr.get_files(page.session_id, [file.file_id for file in files])]


def choose_example(offer: Offer) -> list[Upload]:
    found = examples(offer.data)
    chosen = st.session_state.get("example", 0) % len(found)
    with st.container(horizontal=True, gap="small", key="examples"):
        for number, example in enumerate(found):
            with st.container(width=120, gap="xsmall"):
                st.image(example.upload.data, alt=example.alt, width="stretch")
                label = f"Example {number + 1}" + (" ✓" if number == chosen else "")
                st.button(label, key=f"example-{number}", width="stretch", on_click=_pick, args=(number,))
    one = found[chosen]
    if one.references:
        st.session_state.setdefault(_references_key(one.upload), "\n".join(one.references))
    return [one.upload]


def _pick(number: int) -> None:
    st.session_state["example"] = number


def _references_key(upload: Upload) -> str:
    return f"references-{upload.digest}"


@dataclass(frozen=True)
class Questions:
    """What is asked of the chosen checkpoints, and how they search."""

    offers: list[Offer]
    decode: Decode
    weights: str

    def decode_of(self, offer: Offer) -> Decode:
        """Words are drawn only where a language model writes them."""
        return self.decode if offer.samples else Decode(beam=self.decode.beam, max_words=self.decode.max_words, ban_unk=True)

    def ask(self, question: Callable, uploads: list[Upload]) -> list[dict]:
        """What `say` or `answer` (the question) gives, a dictionary by the photos' digests for each checkpoint; all hold the same photos.

        A photo that cannot be used is a sentence in the page, and the others go on. What was asked before in this page is not asked again.
        """
        kept = st.session_state.setdefault("kept", {})
        place, problems, found = st.empty(), [], [{} for _ in self.offers]
        asked = [(upload, number, offer) for upload in uploads for number, offer in enumerate(self.offers)]
        for done, (upload, number, offer) in enumerate(asked):
            key = (question.__name__, upload.digest, upload.name, str(offer.path), offer.version, astuple(self.decode_of(offer)))
            try:
                if key not in kept:
                    wait = f"Caption {done + 1} of {len(asked)}"
                    place.progress(done / len(asked), wait)
                    with the_turns().take(
                        lambda before, n=done, w=wait: place.progress(n / len(asked), f"{w}: waiting, {before} before you")
                    ):
                        kept[key] = question(
                            captioner_of(offer.path, offer.version, self.weights), open_upload(upload), self.decode_of(offer)
                        )
                    if len(kept) > ANSWERS_KEPT:
                        del kept[next(iter(kept))]
                kept[key] = kept.pop(key)  # to the end: what was not asked for longest is the first to go
                found[number][upload.digest] = kept[key]
            except BadInput as error:
                problems.append(str(error))
        place.empty()
        for sentence in dict.fromkeys(problems):  # a checkpoint that cannot be loaded says so once, not for every photo
            st.html(markup.bad(sentence))
        return [{digest: one[digest] for digest in one if all(digest in other for other in found)} for one in found]


def show_table(uploads: list[Upload], questions: Questions) -> list[Upload]:
    """The captions of many photos. Returns those that could be captioned."""
    found = questions.ask(say, uploads)
    good = [upload for upload in uploads if upload.digest in found[0]]
    if not good:
        return []
    labels = [offer.label for offer in questions.offers]
    st.html(
        markup.table(f"{len(good)} photos", ["photo", *labels], [[u.name, *(captions[u.digest].text for captions in found)] for u in good])
    )
    rows = [
        [Row(upload.name, captions[upload.digest], offer.label, offer.model, questions.decode_of(offer)) for upload in good]
        for offer, captions in zip(questions.offers, found, strict=True)
    ]
    with st.container(horizontal=True):
        st.download_button("Captions as CSV", to_csv(sum(rows, [])), "captions.csv", "text/csv", on_click="ignore")
        for number, of_one in enumerate(rows, start=1):
            which = f", checkpoint {number}" if len(rows) > 1 else ""
            results = to_coco_results(of_one)
            st.download_button(f"COCO results JSON{which}", results, f"captions-{number}.json", "application/json", on_click="ignore")
    return good


def choose_one(uploads: list[Upload]) -> Upload:
    # Two photos may have one name: the number tells them apart.
    return uploads[st.selectbox("Look into", range(len(uploads)), format_func=lambda i: f"{i + 1}. {uploads[i].name}")]


def show_photo(upload: Upload, chosen: list[Offer], answers: list[Answer]) -> None:
    if len(answers) == 2:
        st.html(markup.note(differs(answers[0].best.words, answers[1].best.words)))
    columns = st.columns(len(answers), gap="large")
    for number, (column, offer, found) in enumerate(zip(columns, chosen, answers, strict=True)):
        with column:
            st.html(markup.name(offer.label))
            step_through(found, upload, number, beside=len(answers) == 1)
    show_scores(upload, chosen, answers)


@st.fragment
def step_through(found: Answer, upload: Upload, number: int, beside: bool) -> None:
    """The caption and the photo, word by word where the system has maps. A fragment: a step redraws this much and nothing else."""
    words, word = found.best.words, None
    key = f"{number}-{upload.digest}-{' '.join(words)}"
    left, right = st.columns(2, gap="large") if beside else (st.container(), st.container())
    with left:
        caption = st.container()
        if found.steps:
            # Streamlit reads Markdown in what a slider shows: numbers only, the word itself is marked in the caption.
            stop = st.select_slider(
                "Step through the words", range(len(words) + 1), format_func=lambda i: str(i or "photo"), key=f"word-{key}"
            )
            word = stop - 1 if stop else None
        caption.html(markup.caption(words, word) + markup.note(_about(found)))
        st.html(markup.status(_where(found, word)))
    with right:
        alt = f"photo {upload.name}" + ("" if word is None else f", lit where the map is strong. {_where(found, word)}")
        st.image(found.picture() if word is None else found.word_picture(word), alt=alt, width="stretch")
        if found.steps:
            st.download_button("All words as a strip (PNG)", found.strip, "strip.png", "image/png", on_click="ignore", key=f"strip-{key}")
        if len(found.captions) > 1:
            with st.expander(f"The search's {len(found.captions)} captions, best first"):
                st.html(markup.alternatives([(one.text, one.score) for one in found.captions]))


def _where(found: Answer, word: int | None) -> str:
    words = found.best.words
    if word is not None:
        return f"Word {word + 1} of {len(words)}, “{words[word]}”: {MAP_KINDS[found.map_kind]} lies {found.where(word)}."
    if not words:
        return "Nothing was said, so there is no map."
    return "Each word has a map of where the captioner looked." if found.steps else f"No word has a map: {MAP_KINDS[found.map_kind]}."


def _about(found: Answer) -> str:
    end = "" if found.best.ended else " It was cut at the longest caption."
    return f"Score {found.best.score:.2f}: its log-probability in nats.{end}"


def show_scores(upload: Upload, chosen: list[Offer], answers: list[Answer]) -> None:
    typed = st.text_area(
        "Your reference captions, one a line: the caption is scored against them", key=_references_key(upload), max_chars=5000
    )
    scores = [score_typed(found.best.text, typed) for found in answers]
    if scores[0]:
        st.html(markup.scores([offer.label for offer in chosen], scores))
        st.html(markup.note("Of one sentence BLEU-4 and CIDEr say little, so they are not here."))


if __name__ == "__main__":
    main()
else:
    app = st.App(__file__, middleware=[Middleware(Budget, held=held_by_streamlit)])
