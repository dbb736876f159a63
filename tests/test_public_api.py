"""Each call of the public API, as users write it; the example of a docstring runs beside its module's tests."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hatchling.builders.wheel import WheelBuilder
from PIL import Image

import vse_gpo
from tests.helpers.small_settings import SETTINGS
from vse_gpo.model import build_model
from vse_gpo.storage.settings import build

ROOT = Path(__file__).parents[1]
NAMES = ["GPO", "VSE", "VSEError", "__version__", "evaluate", "interaction", "losses", "pooling", "retrieval"]
IMAGES, CAPTIONS = [[1.0, 0.0], [0.0, 2.0]], [[3.0, 0.0], [0.8, 0.6]]  # not of unit length
EMBEDDINGS = f"import vse_gpo\nE = ({IMAGES}, {CAPTIONS})\n"
SCORED = "print(vse_gpo.evaluate(*E, caption_to_image=[0, 1])['all']['t2i_r1'])\n"


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A fresh process, in which nothing has been imported yet."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)


# names


def test_the_package_shows_its_public_names_and_imports_none_of_them():
    code = "import sys, vse_gpo; print(dir(vse_gpo), 'torch' in sys.modules, vse_gpo.__version__)"
    assert python("-c", code).stdout.startswith(f"{NAMES} False 0.")
    for name in NAMES:
        assert getattr(vse_gpo, name) is not None
    with pytest.raises(AttributeError, match="module 'vse_gpo' has no attribute 'nothing'"):
        _ = vse_gpo.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("order", [f"import vse_gpo.evaluate\n{SCORED}", f"{SCORED}import vse_gpo.evaluate\n{SCORED}"])
def test_evaluate_is_a_function_and_a_command(order):
    done = python("-c", EMBEDDINGS + order)
    assert (done.stderr, set(done.stdout.split())) == ("", {"50.0"})


def test_the_command_of_the_same_name_works_as_a_module_and_as_a_script():
    script = "import sys; from vse_gpo.evaluate import main; sys.argv[0] = 'vse-evaluate'; sys.exit(main())"
    for command in (("-m", "vse_gpo.evaluate"), ("-c", script)):
        done = python(*command, "checkpint=best.ckpt")
        assert done.returncode == 1
        assert done.stderr.startswith("error: checkpint: no such setting (did you mean checkpoint?)")


def test_the_wheel_tells_type_checkers_that_it_has_types(tmp_path):
    [wheel] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as files:
        assert "vse_gpo/py.typed" in files.namelist()


def test_an_error_is_a_value_error():
    with pytest.raises(ValueError, match=r"unknown protocol coco, expected some of all, coco_5k"):
        vse_gpo.evaluate(IMAGES, CAPTIONS, caption_to_image=[0, 1], protocols=["coco"])


# models


def test_a_model_comes_from_a_folder_and_encodes(tmp_path):
    torch.manual_seed(0)
    build_model(SETTINGS, build(SETTINGS).state_dict()).save_pretrained(tmp_path / "model")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.jpg")
    model = vse_gpo.VSE.from_pretrained(tmp_path / "model")
    images = model.encode_images([tmp_path / "a.jpg", np.zeros((30, 40, 3), np.uint8)])
    captions = model.encode_captions("a red circle")
    assert (images.shape, captions.shape) == ((2, 6), (1, 6))
    assert images.dtype == captions.dtype == torch.float32
    torch.testing.assert_close(images.norm(dim=1), torch.ones(2))
    assert (images @ captions.T).abs().max() <= 1 + 1e-6


# parts


def test_gpo_pools_sets_and_shows_its_coefficients():
    torch.manual_seed(0)
    pooling = vse_gpo.GPO()
    assert isinstance(pooling, vse_gpo.pooling.GPO)
    features, lengths = torch.randn(2, 5, 8), torch.tensor([3, 5])
    pooled, coefficients = pooling(features, lengths), pooling.coefficients(lengths)
    assert (pooled.shape, coefficients.shape) == ((2, 8), (2, 5))
    torch.testing.assert_close(coefficients.sum(1), torch.ones(2))
    ranked = features[0, :3].sort(dim=0, descending=True).values
    torch.testing.assert_close(pooled[0], coefficients[0, :3] @ ranked)


def test_every_pooling_is_found_by_its_name():
    lengths, features = torch.tensor([2, 1]), torch.tensor([[[1.0], [3.0]], [[5.0], [7.0]]])
    assert vse_gpo.pooling.Mean()(features, lengths).tolist() == [[2.0], [5.0]]
    assert vse_gpo.pooling.Max()(features, [2, 1]).tolist() == [[3.0], [5.0]]
    assert all(issubclass(getattr(vse_gpo.pooling, name), torch.nn.Module) for name in vse_gpo.pooling.__all__)


def test_the_triplet_loss_sums_over_the_batch():
    loss = vse_gpo.losses.TripletLoss(margin=0.2)
    similarity = torch.tensor([[0.9, 0.8, 0.1], [0.1, 0.7, 0.2], [0.3, 0.6, 0.5]])
    # row by row and column by column: 0.2 − own + hardest negative, where that is above 0
    rows = (0.2 - 0.9 + 0.8) + 0.0 + (0.2 - 0.5 + 0.6)
    columns = 0.0 + (0.2 - 0.7 + 0.8) + 0.0
    torch.testing.assert_close(loss(similarity, hardest=True), torch.tensor(rows + columns))


# metrics

METRICS = {f"{way}_{name}" for way in ("i2t", "t2i") for name in ("r1", "r5", "r10", "medr", "meanr")} | {"rsum"}


def test_the_three_ways_to_metrics_agree():
    similarity = [[1.0, 0.8], [0.0, 0.6]]  # cosines of what is above
    scored = vse_gpo.evaluate(np.array(IMAGES), torch.tensor(CAPTIONS), caption_to_image=[0, 1], protocols=["all"])
    recalls = vse_gpo.retrieval.image_caption_recalls(IMAGES, CAPTIONS, [0, 1])
    assert scored == {"all": recalls}
    assert recalls.keys() == METRICS
    assert recalls == vse_gpo.retrieval.matrix_recalls(similarity, [0, 1])
    assert (recalls["i2t_r1"], recalls["t2i_r1"], recalls["rsum"]) == (100.0, 50.0, 550.0)


def test_annotated_protocols_are_scored_from_ids():
    """Crisscrossed Captions' recalls on COCO's ids; the numbers are those of the released program."""
    golden = ROOT / "tests" / "golden"
    with np.load(golden / "cxc.npz") as arrays:
        images, captions, expected = (arrays[name] for name in ("image_embeddings", "caption_embeddings", "t2t"))
    ids = (golden / "cxc_annots" / "testall_ids.txt").read_text().split()[::5]
    index = np.arange(40).repeat(5)
    scored = vse_gpo.evaluate(
        images,
        captions,
        caption_to_image=index,
        protocols=["all", "cxc"],
        image_ids=ids,
        cxc=golden / "cxc_annots",
    )
    assert [scored["cxc"][f"t2t_r{k}"] for k in (1, 5, 10)] == pytest.approx(expected.tolist())
    assert scored["all"] == vse_gpo.retrieval.image_caption_recalls(images, captions, index)
    with pytest.raises(vse_gpo.VSEError, match="annotated protocols need COCO's image ids"):
        vse_gpo.evaluate(images, captions, caption_to_image=index, protocols=["cxc"], cxc=golden / "cxc_annots")
