"""Pictures to try the web demo with: drawn scenes, or the reader's own in examples/."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from captioning.web.uploads import Upload

FOLDER = Path(__file__).resolve().parents[2] / "examples"
KINDS = (".jpg", ".jpeg", ".png", ".webp")
MOST = 8


@dataclass(frozen=True)
class Example:
    """upload: as if someone had given it. title: on its button. alt: in words for who cannot see it. references: captions that are true of it."""

    upload: Upload
    title: str
    alt: str
    references: tuple[str, ...] = ()


def examples(data: str, folder: Path = FOLDER) -> list[Example]:
    """data: what the checkpoint was trained on. The pictures of `folder` for a captioner of photographs, else (and where there are none) test scenes."""
    files = [] if data == "demo" or not folder.is_dir() else sorted(p for p in folder.iterdir() if p.suffix.lower() in KINDS)[:MOST]
    return [Example(Upload(f.name, f.read_bytes()), f.stem, f"photo {f.stem}") for f in files] or _scenes()


def _scenes() -> list[Example]:
    """The first test scenes that show only what training did: what a captioner of scenes should get right."""
    from PIL import Image

    from captioning.scenes import draw_scene, make_scene

    found, number = [], 0
    while len(found) < MOST:
        scene = make_scene(0, "test", number)
        number += 1
        if scene.unseen:
            continue
        file = BytesIO()
        Image.fromarray(draw_scene(scene)[0]).save(file, "PNG")
        title = f"Scene {len(found) + 1}"
        found.append(
            Example(Upload(f"scene-{number - 1}.png", file.getvalue()), title, f"drawn scene: {scene.captions[0]}", scene.captions)
        )
    return found
