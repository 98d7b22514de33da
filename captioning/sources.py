"""Sources: where the photographs and captions that papers use are given out, under which terms, and with which checksums.

Pure data for captioning/download.py. No publisher gives checksums; those here were published by projects that fetched the same files, named in
`checksum_from`. Sizes are about right and serve the disk check alone: what a file weighs, its server says. Bytes, not MiB.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """A zip on a public server. Of its members those called `members` (a glob on the name without folders) go to `folder` below the data folder."""

    url: str
    about_bytes: int
    about_unpacked: int  # the chosen members alone
    members: str
    folder: str = ""
    sha256: str = ""
    md5: str = ""
    checksum_from: str = ""  # "" where none is known: then the first download's sha256 is what later ones are compared with

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Source:
    """A data set: its archives, what people accept by taking it, and the images that only a form gives out."""

    name: str
    title: str
    terms: str
    archives: tuple[Archive, ...]
    captions: str  # the file load_data takes
    by_hand: str = ""  # lines that say what to ask for and where to put it; {folder} is the data folder
    images_archive: str = ""  # the file that by_hand speaks of


KARPATHY = "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"
TFDS = "TensorFlow Datasets, url_checksums/coco_captions.txt"
R_TORCHVISION = "torchvision for R, flickr8k_caption_dataset"
# Not https: the name has dots that the certificate of its storage does not cover. The sha256 says whether the bytes are right.
COCO = "http://images.cocodataset.org"
FLICKR8K = "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k"


def _karpathy(captions: str, about_unpacked: int) -> Archive:
    sha256 = "4cfd70132527b80933105e5829dc9034eaab9573482e2e680abbab6130244817"
    return Archive(KARPATHY, 36_745_453, about_unpacked, captions, sha256=sha256, checksum_from=TFDS)


SOURCES = {
    source.name: source
    for source in (
        Source(
            name="flickr8k",
            title="Flickr8k: 8,000 photographs with five captions each, Karpathy's split 6,000 / 1,000 / 1,000",
            terms="""\
Photographs: their authors' own, from Flickr; Flickr's terms of use hold for them (https://www.flickr.com/help/terms).
Data set: University of Illinois, for non-commercial research and education only. Do not redistribute the photographs.
Cite: Hodosh, Young, Hockenmaier, Framing Image Description as a Ranking Task, Journal of Artificial Intelligence Research 47 (2013).
Split: Karpathy and Li, arXiv:1412.2306; no licence is stated for the file.
The university gave the data out after a form. These archives are a copy in a release on GitHub, not the university's server.""",
            archives=(
                _karpathy("dataset_flickr8k.json", 9_035_673),
                Archive(
                    f"{FLICKR8K}/Flickr8k_text.zip",
                    2_300_000,
                    12_000_000,
                    "*.txt",
                    "Flickr8k_text",
                    md5="bf6c1abcb8e4a833b7f922104de18627",
                    checksum_from=R_TORCHVISION,
                ),
                Archive(
                    f"{FLICKR8K}/Flickr8k_Dataset.zip",
                    1_120_000_000,
                    1_120_000_000,
                    "*.jpg",
                    "Flicker8k_Dataset",  # as the archive itself spells it
                    md5="f18a1e2920de5bd84dae7cf08ec78978",
                    checksum_from=R_TORCHVISION,
                ),
            ),
            captions="dataset_flickr8k.json",
        ),
        Source(
            name="flickr30k",
            title="Flickr30k: 31,014 photographs with five captions each, Karpathy's split 29,000 / 1,014 / 1,000",
            terms="""\
Photographs: their authors' own, from Flickr; Flickr's terms of use hold for them (https://www.flickr.com/help/terms).
Data set: University of Illinois, for researchers and educators, non-commercial research and education only. Do not redistribute the photographs.
Cite: Young, Lai, Hodosh, Hockenmaier, From Image Descriptions to Visual Denotations, Transactions of the ACL 2 (2014).
Split: Karpathy and Li, arXiv:1412.2306; no licence is stated for the file.""",
            archives=(_karpathy("dataset_flickr30k.json", 38_318_553),),
            captions="dataset_flickr30k.json",
            by_hand="""\
The photographs of Flickr30k are given out after a form only; nothing fetches them for you.
1. Fill in https://forms.illinois.edu/sec/229675 (linked from https://shannon.cs.illinois.edu/DenotationGraph/). A link comes by mail.
2. From there take flickr30k-images.tar or flickr30k-images.tar.gz, about 4.4 GB. No checksum of it is known.
3. Put it at {folder}/flickr30k-images.tar (or .tar.gz). A tar is read as it is; a tar.gz is unzipped to a tar once. A folder {folder}/flickr30k-images/
   with the photographs does as well.
4. Run the same command again.""",
            images_archive="flickr30k-images.tar",
        ),
        Source(
            name="coco",
            title="MS COCO 2014: 123,287 photographs with five captions each, Karpathy's split 113,287 / 5,000 / 5,000",
            terms="""\
Captions: COCO Consortium, Creative Commons Attribution 4.0 (https://creativecommons.org/licenses/by/4.0/).
Photographs: not the consortium's; Flickr's terms of use hold for them, and whoever uses them answers for that use, copies included.
In full: https://cocodataset.org/#termsofuse
Cite: Lin et al., Microsoft COCO: Common Objects in Context, arXiv:1405.0312; Chen et al., Microsoft COCO Captions, arXiv:1504.00325.
Split: Karpathy and Li, arXiv:1412.2306; no licence is stated for the file.""",
            archives=(
                _karpathy("dataset_coco.json", 144_186_139),
                Archive(
                    f"{COCO}/annotations/annotations_trainval2014.zip",
                    252_872_794,
                    100_000_000,
                    "captions_*.json",
                    "annotations",
                    sha256="031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
                    checksum_from=TFDS,
                ),
                Archive(
                    f"{COCO}/zips/train2014.zip",
                    13_510_573_713,
                    13_600_000_000,
                    "*.jpg",
                    "train2014",
                    sha256="ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
                    checksum_from=TFDS,
                ),
                Archive(
                    f"{COCO}/zips/val2014.zip",
                    6_645_013_297,
                    6_700_000_000,
                    "*.jpg",
                    "val2014",
                    sha256="fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
                    checksum_from=TFDS,
                ),
            ),
            captions="dataset_coco.json",
        ),
    )
}
