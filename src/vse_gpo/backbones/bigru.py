"""The text backbone that is trained from scratch: word vectors and a GRU."""

from torch import nn

from vse_gpo.backbones.backbone import Backbone
from vse_gpo.batch import Features, Tokens
from vse_gpo.gru import run_gru


class BiGRU(Backbone):
    """Word vectors and a one-layer bidirectional GRU whose directions are averaged (Faghri et al. 2018).

    Args:
        vocabulary_size: number of words, <mask> included.
        width: width of the features.
        word_width: width of the word vectors.
        bidirectional: False reads only forward, as VSE++ and VSRN do.
    """

    def __init__(
        self, *, vocabulary_size: int, width: int = 1024, word_width: int = 300, bidirectional: bool = True
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary_size, word_width)
        nn.init.uniform_(self.embed.weight, -0.1, 0.1)
        self.rnn = nn.GRU(word_width, width, batch_first=True, bidirectional=bidirectional)

    def forward(self, tokens: Tokens) -> Features:
        states = run_gru(self.rnn, self.embed(tokens.ids), tokens.lengths)
        return Features(states.mean(2), tokens.lengths)
