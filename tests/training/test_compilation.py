from collections.abc import Callable

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from transformers import BertConfig, BertModel

from tests.helpers.tiny import preparations
from tests.training.test_module import build_module
from vse_gpo.backbones.backbone import Backbone
from vse_gpo.backbones.bigru import BiGRU
from vse_gpo.backbones.images import Regions
from vse_gpo.backbones.texts import Bert
from vse_gpo.backbones.timm_trunks import timm_grid
from vse_gpo.batch import Batch, Tokens
from vse_gpo.encoder import Encoder, linear_projection
from vse_gpo.errors import VSEError
from vse_gpo.losses import TripletLoss
from vse_gpo.model import VSE
from vse_gpo.pooling import GPO
from vse_gpo.training.compilation import compile_networks
from vse_gpo.training.phases import Phases

# word vectors are no leaves, and torch's compiler asks every input for its gradient
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")

SMALL_BERT = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def small_model() -> VSE:
    torch.manual_seed(0)
    trunk = timm_grid("test_resnet", pretrained=False)
    text = Bert(BertModel(BertConfig(**SMALL_BERT), add_pooling_layer=False), groups=2)
    return of_backbones(trunk, trunk.trunk.num_features, text, 8)


def of_backbones(images: Backbone, image_width: int, texts: Backbone, text_width: int) -> VSE:
    return VSE(
        image_encoder=Encoder(backbone=images, projection=linear_projection(image_width, 16), pooling=GPO(8, 4)),
        text_encoder=Encoder(backbone=texts, projection=linear_projection(text_width, 16), pooling=GPO(8, 4)),
        **preparations(),
    )


def batch(pairs: int, longest: int) -> Batch:
    """Pairs whose captions have up to so many tokens."""
    random = torch.Generator().manual_seed(100 * pairs + longest)
    lengths = torch.randint(longest // 2, longest + 1, (pairs,), generator=random)
    lengths[0] = longest
    return Batch(
        torch.randint(0, 256, (pairs, 3, 64, 64), generator=random, dtype=torch.uint8),
        Tokens(torch.randint(1, 30, (pairs, longest), generator=random), lengths),
        torch.arange(pairs),
        torch.arange(pairs),
    )


def losses(model: VSE, batches: list[Batch]) -> list[float]:
    """Of one training step for each batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model.train()
    values = []
    for pairs in batches:
        images, captions = model(pairs)
        loss = TripletLoss()(images @ captions.T)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    return values


@pytest.fixture
def compiled_with(monkeypatch) -> Callable[[object], None]:
    """Sets what compiles the graphs that torch finds; its own takes minutes and is not what is tested here."""
    torch._dynamo.reset()
    torch_compile = torch.compile

    def choose(backend: object) -> None:
        def compile(forward: object, *, mode: str, dynamic: bool | None) -> object:
            return torch_compile(forward, backend=backend, dynamic=dynamic, fullgraph=True)  # no graph may break

        monkeypatch.setattr(torch, "compile", compile)

    return choose


def test_compiled_networks_train_as_they_do_without(compiled_with) -> None:
    compiled_with("aot_eager")
    batches = [batch(4, 7), batch(4, 5), batch(4, 9)]
    expected = losses(small_model(), batches)
    model = small_model()
    names = list(model.state_dict())
    compile_networks(model, "default")
    assert losses(model, batches) == pytest.approx(expected, abs=1e-5)
    assert list(model.state_dict()) == names


def test_new_lengths_and_batch_sizes_soon_compile_nothing_more(compiled_with) -> None:
    counter = CompileCounter()
    compiled_with(counter)
    model = small_model()
    compile_networks(model, "default")
    losses(model, [batch(*shape) for shape in [(4, 7), (6, 9), (4, 6)]])
    seen = counter.frame_count
    assert seen <= 4  # a trunk for four pictures, one for any number; texts, once more where padding is cut off
    losses(model, [batch(*shape) for shape in [(4, 8), (6, 10), (8, 5), (10, 12), (4, 13)]])
    assert counter.frame_count == seen


def test_a_module_has_its_networks_compiled(compiled_with) -> None:
    counter = CompileCounter()
    compiled_with(counter)
    module = build_module(small_model(), Phases([{"from_epoch": 0, "negatives": "all"}]), compile="default")
    with torch.no_grad():
        module(batch(4, 7))
    assert counter.frame_count >= 2  # one for each network at least


def test_a_model_without_networks_is_refused() -> None:
    model = of_backbones(Regions(4), 4, BiGRU(vocabulary_size=9, width=4, word_width=3), 4)
    with pytest.raises(VSEError, match="neither region features nor a GRU can be compiled; set compile=null"):
        compile_networks(model, "default")


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_modes_that_would_overwrite_outputs_are_refused(mode) -> None:
    with pytest.raises(VSEError, match=f"compile={mode} has CUDA graphs.*; expected default or .*-no-cudagraphs"):
        compile_networks(small_model(), mode)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(VSEError, match="compile=fast: Unrecognized mode=fast"):
        compile_networks(small_model(), "fast")
