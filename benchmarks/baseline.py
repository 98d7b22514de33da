"""The published loop, restated plainly from its description: what `speed.py` measures our decoder against.

Nothing here is trained for its own sake. The equations are the attention LSTM's (arXiv:1502.03044 sec. 3.1 with the published code's ReLU and vector
gate); the order of work is the published code's: captions are rows (each of an image's five brings its own copy of the regions), sorted by length; at
every word the regions' keys are computed again and the vocabulary's logits are written into a padded tensor; beam search takes one image at a time,
expands its regions to k rows and lets the beam shrink as captions end. Only what no longer runs is mended (beam indices are divided with //, a search
in which nothing ends gives its best open caption). `from_ours` copies our weights in; a test holds logits and captions equal.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from captioning.vocabulary import END, START


class Attention(nn.Module):
    """Regions (N,R,D), hidden states (N,H) -> their weighted sum (N,D) and the weights (N,R)."""

    def __init__(self, region_dim: int, hidden_dim: int, attention_dim: int):
        super().__init__()
        self.encoder_att = nn.Linear(region_dim, attention_dim)
        self.decoder_att = nn.Linear(hidden_dim, attention_dim)
        self.full_att = nn.Linear(attention_dim, 1)

    def forward(self, regions: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        keys, query = self.encoder_att(regions), self.decoder_att(hidden)
        scores = self.full_att(F.relu(keys + query.unsqueeze(1))).squeeze(2)
        alpha = scores.softmax(1)
        return (regions * alpha.unsqueeze(2)).sum(1), alpha


class PublishedDecoder(nn.Module):
    """`forward` is its teacher-forced loop, `caption` its beam search."""

    def __init__(self, region_dim: int, vocabulary_size: int, embed_dim=512, hidden_dim=512, attention_dim=512, dropout=0.5):
        super().__init__()
        self.attention = Attention(region_dim, hidden_dim, attention_dim)
        self.embedding = nn.Embedding(vocabulary_size, embed_dim)
        self.dropout = nn.Dropout(dropout)
        self.decode_step = nn.LSTMCell(embed_dim + region_dim, hidden_dim)
        self.init_h = nn.Linear(region_dim, hidden_dim)
        self.init_c = nn.Linear(region_dim, hidden_dim)
        self.f_beta = nn.Linear(hidden_dim, region_dim)
        self.fc = nn.Linear(hidden_dim, vocabulary_size)

    @classmethod
    def from_ours(cls, decoder, dropout: float) -> "PublishedDecoder":
        """With the weights of a models.AttendDecoder of the paper's form."""
        (A, D), (V, E), H = decoder.attention.keys.weight.shape, decoder.embedding.weight.shape, decoder.start_hidden.out_features
        ours = {
            "attention.encoder_att": decoder.attention.keys, "attention.decoder_att": decoder.attention.query, "embedding": decoder.embedding,
            "attention.full_att": decoder.attention.score, "decode_step": decoder.cell, "init_h": decoder.start_hidden,
            "init_c": decoder.start_cell, "f_beta": decoder.gate, "fc": decoder.project,
        }  # fmt: skip
        found = cls(D, V, E, H, A, dropout)
        weights = {f"{name}.{part}": value for name, module in ours.items() for part, value in module.state_dict().items()}
        weights["attention.full_att.bias"] = torch.zeros(1)  # ours has none: it cancels in the softmax
        found.load_state_dict(weights)
        return found.to(decoder.project.weight.device)

    def _start(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        mean = regions.mean(1)
        return self.init_h(mean), self.init_c(mean)

    def forward(self, regions: Tensor, words: Tensor, lengths: Tensor):
        """regions (N,R,D), one row a caption; words (N,T+1) from the start token on; lengths (N,) words to predict.

        Logits (N,T,V), attention (N,T,R), both 0 behind a caption's end, and the order in which the captions stand there: the longest first.
        """
        lengths, order = lengths.sort(descending=True)
        regions, words = regions[order], words[order]
        embedded = self.embedding(words)
        h, c = self._start(regions)
        running = lengths.tolist()
        logits = regions.new_zeros(len(words), max(running), self.fc.out_features)
        alphas = regions.new_zeros(len(words), max(running), regions.shape[1])
        for t in range(max(running)):
            n = sum(length > t for length in running)
            context, alpha = self.attention(regions[:n], h[:n])
            context = torch.sigmoid(self.f_beta(h[:n])) * context
            h, c = self.decode_step(torch.cat([embedded[:n, t], context], 1), (h[:n], c[:n]))
            logits[:n, t] = self.fc(self.dropout(h))
            alphas[:n, t] = alpha
        return logits, alphas, order

    def losses(self, regions: Tensor, words: Tensor, lengths: Tensor) -> tuple[Tensor, float, float]:
        """Cross-entropy a word plus the attention penalty; its value and top-5 accuracy (percent), both read at every step as the code does."""
        logits, alphas, order = self(regions, words, lengths)
        lengths = lengths[order].cpu()
        scores = pack_padded_sequence(logits, lengths, batch_first=True).data
        targets = pack_padded_sequence(words[order, 1:], lengths, batch_first=True).data
        loss = F.cross_entropy(scores, targets) + ((1.0 - alphas.sum(1)) ** 2).mean()
        _, best = scores.topk(5, 1)
        correct = best.eq(targets.view(-1, 1).expand_as(best))
        return loss, loss.item(), 100.0 * correct.view(-1).float().sum().item() / len(targets)

    @torch.no_grad()
    def caption(self, regions: Tensor, beam: int = 5, max_words: int = 50) -> tuple[list[int], float]:
        """regions (1,R,D) of one image -> word ids without start and end, and their log-probability in nats."""
        k, V = beam, self.fc.out_features
        regions = regions.expand(k, -1, -1)
        words = torch.full((k,), START, device=regions.device)
        sequences = words.unsqueeze(1)
        scores = torch.zeros(k, 1, device=regions.device)
        ended, ended_scores = [], []
        h, c = self._start(regions)
        for step in range(1, max_words + 1):
            context, _ = self.attention(regions, h)
            context = torch.sigmoid(self.f_beta(h)) * context
            h, c = self.decode_step(torch.cat([self.embedding(words), context], 1), (h, c))
            totals = scores.expand(k, V) + F.log_softmax(self.fc(h), 1)
            if step == 1:  # all k rows are the same
                scores, best = totals[0].topk(k)
            else:
                scores, best = totals.view(-1).topk(k)
            parents, following = best // V, best % V
            sequences = torch.cat([sequences[parents], following.unsqueeze(1)], 1)
            open_rows = [row for row, word in enumerate(following.cpu().tolist()) if word != END]
            done_rows = sorted(set(range(k)) - set(open_rows))
            if done_rows:
                ended.extend(sequences[done_rows].cpu().tolist())
                ended_scores.extend(scores[done_rows].cpu().tolist())
            k -= len(done_rows)
            if k == 0:
                break
            sequences, parents = sequences[open_rows], parents[open_rows]
            h, c, regions = h[parents], c[parents], regions[parents]
            scores, words = scores[open_rows].unsqueeze(1), following[open_rows]
        if not ended:
            ended, ended_scores = sequences.cpu().tolist(), scores.view(-1).cpu().tolist()
        best = max(range(len(ended)), key=ended_scores.__getitem__)
        return [word for word in ended[best][1:] if word != END], ended_scores[best]


def training_step(decoder: PublishedDecoder, optimiser, regions: Tensor, words: Tensor, lengths: Tensor, clip: float = 5.0) -> float:
    """One step of the published training loop on captions as rows -> the loss."""
    loss, value, _ = decoder.losses(regions, words, lengths)
    optimiser.zero_grad()
    loss.backward()
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad.data.clamp_(-clip, clip)
    optimiser.step()
    return value
