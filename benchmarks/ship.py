"""Put a finished run's captioner where it is shipped: a folder under checkpoints/, with its model card.

    python benchmarks/ship.py RUN_ID --to checkpoints/flickr8k-deit-tiny [--results results/evidence] [--profile flickr8k]

Copies config.json, the weights and a tokenizer, and writes the card from the run's record. Refused: a run that is not finished, weights that somebody else
trained, or that were tuned from such, weights larger than --most megabytes, and a record that is not of these weights.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
if sys.path[1:2] == [str(Path(__file__).resolve().parent)]:
    del sys.path[1]  # benchmarks/ itself is not a place to import from

from captioning.bad_input import BadInput, run_command  # noqa: E402

FILES = ("config.json", "model.safetensors", "tokenizer.json")


def parse_arguments(line: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_id")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR")
    parser.add_argument("--results", type=Path, default=ROOT / "results/evidence", metavar="DIR")
    parser.add_argument("--profile", default="flickr8k")
    parser.add_argument("--most", type=float, default=20, metavar="MB", help="of the weights (default 20)")
    return parser.parse_args(line)


def main() -> int:
    options = parse_arguments()
    home = options.results / options.profile
    print(ship(home / "checkpoints" / options.run_id, home / "runs" / f"{options.run_id}.json", options.to, options.most))
    return 0


def ship(checkpoint: Path, record: Path, to: Path, most: float = 20) -> Path:
    """Copy a checkpoint to the folder `to`, all of it or nothing; what lay there before goes. Raises BadInput.

    A process that is killed between the last two renames leaves what lay there in the hidden folder .ship-* beside it.
    """
    from captioning.checkpoint import read_description
    from captioning.fingerprint import file_sha256
    from captioning.model_card import find_distilled, write_card
    from captioning.records import read_record
    from captioning.trunks import is_own

    description, found = read_description(checkpoint), read_record(record)
    if to.exists() and not (to / "config.json").is_file() and (not to.is_dir() or any(to.iterdir())):
        raise BadInput(f"--to {to}: there is something else, and a captioner takes a folder of its own, like {to / checkpoint.name}")
    if file_sha256(checkpoint / "model.safetensors") != description["model_sha256"]:
        raise BadInput(f"{checkpoint}: its model.safetensors is not the file that its config.json describes; copy it again")
    encoder, pretrained = description["encoder"], description["config"]["pretrained"]
    if encoder["stored"] and pretrained and not is_own(encoder["tag"]):
        raise BadInput(
            f"{checkpoint}: holds weights that began as {encoder['tag']}, which are not ours to give away; ship a frozen encoder by its name"
        )
    if description.get("language_model") and description["config"].get("language_model"):
        raise BadInput(f"{checkpoint}: holds weights of {description['config']['language_model']}, which are not ours to give away")
    megabytes = (checkpoint / "model.safetensors").stat().st_size / 2**20
    if megabytes > most:
        raise BadInput(
            f"{checkpoint}: {megabytes:.1f} MB of weights, at most {most:g} are shipped; train with --half-weights, or a narrower decoder"
        )
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=".ship-") as place:
        new = Path(place) / to.name
        new.mkdir()
        for name in FILES:
            if (checkpoint / name).is_file():
                shutil.copyfile(checkpoint / name, new / name)
        write_card(new, found, find_distilled(record.resolve().parents[1], description))
        before = Path(place) / "before"  # goes with the place, when the new one lies there
        try:
            if to.exists():
                to.rename(before)
            new.rename(to)
        except BaseException:
            if before.exists():
                before.rename(to)
            raise
    return to


if __name__ == "__main__":
    run_command(main)
