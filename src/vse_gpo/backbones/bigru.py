"""The text backbone that is trained from scratch: word vectors and a GRU."""

from torch import nn

from vse_gpo.backbones.backbone import Backbone
from vse_gpo.batch import Features, Tokens
from vse_gpo.errors import VSEError
from vse_gpo.gru import run_gru


class BiGRU(Backbone):
    """Word vectors and a one-layer bidirectional GRU whose directions are averaged (Faghri et al. 2018).

    Args:
        vocabulary_size: number of words, <mask> included.
        width: width of the features.
        word_width: width of the word vectors.
        bidirectional: False reads only forward, as VSE++ and VSRN do.
        add_words: add each word's vector to its state, so that an item is first of all its own word; the vectors start
            larger then. An interaction learns several times faster this way.

    Raises:
        VSEError: if words are to be added that have another width than the states.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        width: int = 1024,
        word_width: int = 300,
        bidirectional: bool = True,
        add_words: bool = False,
    ) -> None:
        super().__init__()
        if add_words and word_width != width:
            raise VSEError(f"text.network.add_words=true with word_width={word_width}, expected the width, {width}")
        self.add_words = add_words
        self.embed = nn.Embedding(vocabulary_size, word_width)
        if add_words:
            nn.init.normal_(self.embed.weight, std=0.5)
        else:
            nn.init.uniform_(self.embed.weight, -0.1, 0.1)
        self.rnn = nn.GRU(word_width, width, batch_first=True, bidirectional=bidirectional)

    def forward(self, tokens: Tokens) -> Features:
        words = self.embed(tokens.ids)
        states = run_gru(self.rnn, words, tokens.lengths).mean(2)
        return Features(states + words if self.add_words else states, tokens.lengths)
