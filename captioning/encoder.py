"""The image encoder: any timm model, or a module of the user's own, as regions on a grid, or as the one vector that its classifier would see."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captioning.bad_input import BadInput
from captioning.trunks import Preprocessing, TrunkSource


class Encoder(nn.Module):
    """Any timm model, CNN or ViT, or a user's module, as images (B,3,H,W) -> regions (B,R,D), row by row from the top left.

    Class and register tokens are dropped. grid: pool to grid x grid regions (0: the trunk's own). tune_from: -1 frozen and always in eval
    mode; k: timm's layer groups from the k-th on learn, with BatchNorm statistics kept as they came where the weights are pretrained.
    final_norm: the norm in a ConvNeXt's classifier head is applied to each place of the map. mode "train": the trunk goes into train mode
    with the rest of the model, frozen or not; its stochastic depth draws and its BatchNorm statistics drift.
    vector: instead the one vector that the trunk's classifier would see, (B,1,D): timm's pooling (a ViT's class token) and last norm.
    Frozen regions in eval mode are rounded to fp16, because that is what the cache of regions holds: one number wherever they come from.
    """

    def __init__(
        self,
        trunk: nn.Module,
        preprocessing: Preprocessing,
        source: TrunkSource,
        grid: int = 0,
        tune_from: int = -1,
        final_norm: bool = False,
        mode: Literal["eval", "train"] = "eval",
        vector: bool = False,
    ):
        super().__init__()
        self.trunk = trunk
        self.preprocessing = preprocessing
        self.source = source
        self.pool = grid
        self.tune_from = tune_from
        self.frozen = tune_from < 0
        self.final_norm = final_norm
        self.mode = mode
        self.vector = vector
        self.keep_statistics = source.weights_sha256 != "none" and mode == "eval"
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)
        self._choose_what_learns(tune_from)
        self.train(False)
        probe = self._probe()  # (1, D, h, w)
        self.dim, *self.grid = probe.shape[1:]
        if not self.frozen:
            self._freeze_unreached(probe)

    def forward(self, images: Tensor) -> Tensor:
        """images (B,3,S,S), already scaled -> regions (B,R,D)."""
        regions = self.regions(images)
        return regions.half().float() if self.frozen and not self.varies else regions

    def regions(self, images: Tensor) -> Tensor:
        """The same without rounding: what gradients go through."""
        return self._map(images).flatten(2).transpose(1, 2)  # (B, R, D)

    @property
    def varies(self) -> bool:
        """In train mode a picture's regions differ from step to step. Of a user's module nobody knows what its train mode does."""
        drops = any(getattr(m, "drop_prob", 0) or (isinstance(m, nn.modules.dropout._DropoutNd) and m.p) for m in self.trunk.modules())
        return self.mode == "train" and (self.drifts or bool(drops) or self.source.kind == "file")

    @property
    def drifts(self) -> bool:
        """Training changes the trunk though no parameter of it learns: a checkpoint must hold its statistics."""
        return self.mode == "train" and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.trunk.modules())

    def scale(self, pixels: Tensor) -> Tensor:
        """uint8 (B,S,S,3) -> scaled float (B,3,S,S)."""
        images = pixels.permute(0, 3, 1, 2).float().div(255)
        return (images - self.mean) / self.std

    def train(self, mode: bool = True):
        super().train(mode and (not self.frozen or self.mode == "train"))
        if self.keep_statistics:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def _map(self, images: Tensor) -> Tensor:
        features = self.trunk.forward_features(images)
        if self.vector:
            return self._pool(features)
        if not isinstance(features, Tensor):
            raise BadInput(
                f"--encoder {self.source.tag}: gives {type(features).__name__}, no spatial map to attend to; choose another encoder"
            )
        if features.dim() == 3:
            features = self._tokens_to_map(features)
        elif features.dim() == 4 and self._is_nhwc(features):
            features = features.permute(0, 3, 1, 2)
        if features.dim() != 4 or features.shape[-1] * features.shape[-2] == 1:
            raise BadInput(
                f"--encoder {self.source.tag}: gives {tuple(features.shape)}, no spatial map to attend to; choose another encoder"
            )
        if self.final_norm:
            features = self._apply_final_norm(features)
        if self.pool and tuple(features.shape[-2:]) != (self.pool, self.pool):
            features = F.adaptive_avg_pool2d(features, self.pool)
        return features  # (B, D, h, w)

    def _pool(self, features) -> Tensor:
        """What the trunk's classifier would see, as a map of one place (B,D,1,1)."""
        if hasattr(self.trunk, "forward_head"):
            features = self.trunk.forward_head(features, pre_logits=True)
        elif isinstance(features, Tensor) and features.dim() == 4:  # a user's own module: plain global pooling
            features = features.mean((2, 3))
        if not isinstance(features, Tensor) or features.dim() != 2:
            raise BadInput(f"--features vector: {self.source.tag} gives no vector; use --features regions, or another encoder")
        return features[..., None, None]

    def _apply_final_norm(self, features: Tensor) -> Tensor:
        """A ConvNeXt's classifier norms the pooled map; here each place of (B,D,h,w) over its D features."""
        norm = getattr(getattr(self.trunk, "head", None), "norm", None)
        if not isinstance(norm, nn.LayerNorm) or tuple(norm.normalized_shape) != (features.shape[1],):
            raise BadInput(
                f"--final-norm: {self.source.tag} keeps no norm in its classifier head, as a ConvNeXt does; leave the option out"
            )
        places = features.permute(0, 2, 3, 1)  # (B, h, w, D)
        return F.layer_norm(places, norm.normalized_shape, norm.weight, norm.bias, norm.eps).permute(0, 3, 1, 2)

    def _tokens_to_map(self, tokens: Tensor) -> Tensor:
        patches = tokens[:, getattr(self.trunk, "num_prefix_tokens", 0) :]
        embed = getattr(self.trunk, "patch_embed", None)
        h, w = getattr(embed, "grid_size", None) or (round(patches.shape[1] ** 0.5),) * 2
        if h * w != patches.shape[1]:
            raise BadInput(f"--encoder {self.source.tag}: {patches.shape[1]} tokens are no grid; choose another encoder")
        return patches.transpose(1, 2).unflatten(2, (h, w))

    def _is_nhwc(self, features: Tensor) -> bool:
        stated = getattr(self.trunk, "output_fmt", None)
        if stated is not None:
            return str(stated).rsplit(".", 1)[-1] == "NHWC"
        return features.shape[1] == features.shape[2] != features.shape[3]

    def _choose_what_learns(self, tune_from: int) -> None:
        groups = layer_groups(self.trunk)
        last = max(groups.values(), default=0)
        if tune_from > last:
            raise BadInput(f"--tune-from {tune_from}: {self.source.tag} has the layer groups 0 to {last}")
        for name, parameter in self.trunk.named_parameters():
            parameter.requires_grad_(0 <= tune_from <= groups[name])

    def _probe(self) -> Tensor:
        size = self.preprocessing.size
        try:
            with torch.set_grad_enabled(not self.frozen):
                features = self._map(torch.zeros(1, 3, size, size))
        except (RuntimeError, AssertionError, AttributeError, ValueError) as error:
            # Architectures refuse a size, or give something else than a map, each in its own way.
            reason = " ".join(str(error).split())[:160]
            raise BadInput(
                f"--encoder {self.source.tag}: cannot map pictures of {size} pixels ({reason}); other --image-size or encoder"
            ) from error
        if not self.frozen and not features.requires_grad:
            raise BadInput(
                f"--tune-from {self.tune_from}: nothing of {self.source.tag} before its regions would learn; choose a smaller number"
            )
        return features

    def _freeze_unreached(self, features: Tensor) -> None:
        """What lies behind the regions (a head's norm, say) never gets a gradient; several processes would wait for it forever."""
        learning = [p for p in self.trunk.parameters() if p.requires_grad]
        reached = torch.autograd.grad(features.sum(), learning, allow_unused=True)
        for parameter, gradient in zip(learning, reached, strict=True):
            parameter.requires_grad_(gradient is not None)


def layer_groups(trunk: nn.Module) -> dict[str, int]:
    """Parameter name -> index of its layer group, from the stem on: timm's own grouping, else the module's children in order."""
    if hasattr(trunk, "group_matcher"):
        from timm.models import group_parameters

        return group_parameters(trunk, trunk.group_matcher(coarse=True), reverse=True)
    order = {name: k for k, (name, _) in enumerate(trunk.named_children())}
    return {name: order.get(name.partition(".")[0], 0) for name, _ in trunk.named_parameters()}
