"""Is ConvNeXt with soft attention above Show, Attend and Tell's captioners, same data, same code?

The paper sets its BLEU-4 of 34.76 beside the numbers that Xu et al. printed in 2015 (arXiv:1502.03044, VGG-19, COCO: soft 24.3, hard 25.0) and claims
+43.04 % and +39.04 %. Those were trained on other splits, decoded and scored by other code. Here both arms are measured: VGG-16 with soft and with hard
attention beside ConvNeXt with soft, one decoder, one training, one scorer. What is left is the encoder and, for hard, how it is trained.
Expected: on Flickr8k Xu et al. have 19.5 (soft) and 21.3 (hard).
Cost: one row more than `encoders`, as long as hard attention takes there: 1 minute of one CPU core on the demo.
"""

from benchmarks.experiments.attention import with_hard
from benchmarks.experiments.encoders import row_named


def runs(profile) -> list:
    """(label, configuration) of each row."""
    label, convnext = row_named(profile, "convnext")
    vgg_label, vgg = row_named(profile, "vgg16")
    return [(f"{label}, soft", convnext), (f"{vgg_label}, soft", vgg), (f"{vgg_label}, hard", with_hard(profile, vgg))]
