"""Licences of data sets and of weights that people trained on them, by name, as their makers state them. Pure data: imports neither torch nor timm.

Read by captioning/model_card.py. What is not in here is not guessed.
"""

from dataclasses import dataclass

ASK_THE_SOURCE = "not known here, see the source"
DISTILLED_HERE = "MIT, as ReCap, which made them with `benchmarks/distill.py`, within the terms of the photos that they were made on"
OWN_WEIGHTS = "its maker's; where `benchmarks/distill.py` made them: MIT, as ReCap, within the terms of the photos that they were made on"


@dataclass(frozen=True)
class DataLicence:
    """Who may use a data set for what, and whom to cite. `name` and `link`: what the Hub shows as the licence of a model trained on it."""

    title: str
    terms: str
    name: str = ""
    link: str = ""
    citation: str = ""


# By the name under which captioning.data loads them.
DATA = {
    "demo": DataLicence("scenes drawn by ReCap itself, with captions from a grammar", "MIT, as ReCap"),
    "flickr8k": DataLicence(
        "Flickr8k",
        "given for non-commercial research and education only; the photos belong to who took them",
        "flickr8k-non-commercial-research",
        "http://hockenmaier.cs.illinois.edu/8k-pictures.html",
        "Hodosh, Young, Hockenmaier: Framing Image Description as a Ranking Task: Data, Models and Evaluation Metrics. "
        "Journal of Artificial Intelligence Research 47, 2013",
    ),
    "flickr30k": DataLicence(
        "Flickr30k",
        "given for non-commercial research and education only; the photos belong to who took them",
        "flickr30k-non-commercial-research",
        "https://shannon.cs.illinois.edu/DenotationGraph/",
        "Young, Lai, Hodosh, Hockenmaier: From Image Descriptions to Visual Denotations. "
        "Transactions of the Association for Computational Linguistics 2, 2014",
    ),
    "coco": DataLicence(
        "MS COCO",
        "captions CC BY 4.0; the photos under Flickr's terms, each with a licence of its own",
        "coco-terms-of-use",
        "https://cocodataset.org/#termsofuse",
        "Lin and others: Microsoft COCO: Common Objects in Context. European Conference on Computer Vision, 2014; "
        "Chen and others: Microsoft COCO Captions: Data Collection and Evaluation Server. arXiv:1504.00325",
    ),
}
# As timm's own table of weights states them.
TIMM_LICENCES = {
    "apache-2.0": (
        "convnext_tiny.fb_in1k", "convnext_small.fb_in1k", "convnext_base.fb_in1k", "convnext_large.fb_in1k",
        "convnext_tiny.in12k_ft_in1k", "convnext_small.in12k_ft_in1k", "convnext_base.fb_in22k_ft_in1k", "convnext_large.fb_in22k_ft_in1k",
        "vit_base_patch16_224.augreg_in1k", "vit_base_patch16_224.augreg2_in21k_ft_in1k",
        "deit_tiny_patch16_224.fb_in1k", "deit_small_patch16_224.fb_in1k", "deit_base_patch16_224.fb_in1k",
        "mobilenetv2_100.ra_in1k", "mobilenetv3_large_100.ra_in1k",
    ),
    "bsd-3-clause": (
        "resnet50.tv_in1k", "resnet101.tv_in1k", "resnet152.tv_in1k", "vgg16.tv_in1k", "resnext101_32x8d.tv_in1k",
    ),
    "cc-by-nc-4.0": (
        "convnextv2_tiny.fcmae_ft_in1k", "convnextv2_base.fcmae_ft_in1k", "convnextv2_base.fcmae_ft_in22k_in1k",
    ),
}  # fmt: skip
# As their pages at the Hub state them.
LANGUAGE_MODEL_LICENCES = {
    "google-t5/t5-base": "apache-2.0",
    "openai-community/gpt2": "mit",
    "distilbert/distilgpt2": "apache-2.0",
}
