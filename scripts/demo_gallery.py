"""python scripts/demo_gallery.py RUN : the images that make page shows, and what a demo's model finds among them.

RUN/page/pictures gets the test scenes of the built-in data set and, for each of fifty queries like "a red circle left
of a blue square", some new scenes that match it; RUN/page/captions.txt gets their captions. No training scene is among
them. With --measure, the queries are searched in RUN/page/index, and the share that finds a right image is printed;
with --rerank N (or auto), once more with the first N images re-ranked by the model's interaction.
RUN is a run's own folder: its config.yaml names the code that draws the scenes, so use only folders you trust.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torchvision.transforms.v2.functional import to_pil_image

from vse_gpo.data.shapes import ShapesDataset
from vse_gpo.data.shapes.dataset import describe_scenes
from vse_gpo.data.shapes.drawing import draw
from vse_gpo.data.shapes.scenes import INKS, KINDS, VISIBLE, Scene, Shape, sample_scene
from vse_gpo.search.index import Index
from vse_gpo.search.queries import encode_text
from vse_gpo.search.reranking import choose_rerank, find

RELATIONS = ("left of", "right of", "above", "below")
QUERIES, SCENES = 50, 5  # queries, and new scenes that match each
ENLARGED = 2  # times the model's image size: when halved, every pixel is the mean of four
ROW = 5


class Question(NamedTuple):
    """Where the first of two shapes is, relative to the second."""

    first: tuple[str, str]  # colour, kind
    relation: str
    second: tuple[str, str]

    def __str__(self) -> str:
        names = [
            f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {kind}" for colour, kind in (self.first, self.second)
        ]
        return f"{names[0]} {self.relation} {names[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--rerank", type=lambda text: int(text) if text.isdecimal() else text)
    chosen = parser.parse_args()
    dataset: ShapesDataset = instantiate(OmegaConf.load(chosen.run / "config.yaml").dataset.source)
    questions = sample_questions(np.random.default_rng(0))
    scenes = gallery(dataset, questions, np.random.default_rng(1))
    if chosen.measure:
        measure(chosen.run / "page" / "index", scenes, questions, chosen.rerank)
    else:
        write_gallery(chosen.run / "page", scenes, dataset)


def sample_questions(random: np.random.Generator) -> list[Question]:
    """Fifty different questions; the one in the documentation comes first."""
    questions = {Question(("red", "circle"), "left of", ("blue", "square")): None}
    seen_together = list(VISIBLE.values())
    while len(questions) < QUERIES:
        colours = random.choice(list(INKS), 2).tolist()
        first, second = zip(colours, random.choice(KINDS, 2).tolist(), strict=True)
        if first != second and any(set(colours) <= set(visible) for visible in seen_together):
            questions[Question(first, str(random.choice(RELATIONS)), second)] = None
    return list(questions)


def gallery(dataset: ShapesDataset, questions: list[Question], random: np.random.Generator) -> dict[str, Scene]:
    """File name → scene: the test scenes, and new ones for the questions."""
    described = {scene.description for scenes in dataset.scenes.values() for scene in scenes}
    found = {f"test_{number:03d}.png": scene for number, scene in enumerate(dataset.scenes["test"])}
    for question in questions:
        missing = SCENES
        for scene in scenes_of(question, random):
            if scene.description not in described:
                described.add(scene.description)
                found[f"new_{len(found):03d}.png"] = scene
                missing -= 1
            if missing == 0:
                break
    return found


def scenes_of(question: Question, random: np.random.Generator) -> Iterator[Scene]:
    """Sampled scenes that match the question: their first two shapes get the colours and kinds that it asks for."""
    while True:
        scene = sample_scene(random)
        if len(scene.shapes) < 2 or not {question.first[0], question.second[0]} <= set(VISIBLE[scene.background]):
            continue
        wanted = (question.first, question.second)
        shapes = [
            replace(shape, colour=colour, kind=kind)
            for shape, (colour, kind) in zip(scene.shapes[:2], wanted, strict=True)
        ]
        scene = replace(scene, shapes=(*shapes, *scene.shapes[2:]))
        apart = len({(shape.kind, shape.colour) for shape in scene.shapes}) == len(scene.shapes)
        if apart and is_true(question, scene):
            yield scene


def is_true(question: Question, scene: Scene) -> bool:
    """Whether the scene matches the question."""
    places = {(shape.colour, shape.kind): shape for shape in scene.shapes}
    first, second = places.get(question.first), places.get(question.second)
    return first is not None and second is not None and is_related(first, question.relation, second)


def is_related(first: Shape, relation: str, second: Shape) -> bool:
    """Whether the relation holds for the shapes' cells, as in the captions."""
    return {
        "left of": first.column < second.column,
        "right of": first.column > second.column,
        "above": first.row < second.row,
        "below": first.row > second.row,
    }[relation]


def write_gallery(folder: Path, scenes: dict[str, Scene], dataset: ShapesDataset) -> None:
    """Write images and captions; existing images are kept."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for file, scene in scenes.items():
        if not (pictures / file).exists():
            to_pil_image(draw(scene, ENLARGED * dataset.size)).save(pictures / file)
    captions = describe_scenes(list(scenes.values()), dataset.captions, np.random.default_rng(2))
    (folder / "captions.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")
    print(f"{pictures}: {len(scenes)} images")


def measure(folder: Path, scenes: dict[str, Scene], questions: list[Question], rerank: int | str | None) -> None:
    """Print how many questions find a right image first, and how many find one in the first row; re-ranked too."""
    index = Index.load(folder)
    model = index.open_model()
    queries = [encode_text(model, str(question))[0] for question in questions]
    for first_images in dict.fromkeys([0, choose_rerank(rerank, index, model, top=ROW)]):
        found = [find(index, model, query, top=ROW, rerank=first_images) for query in queries]
        right = [
            [is_true(question, scenes[hit.file]) for hit in hits]
            for question, hits in zip(questions, found, strict=True)
        ]
        for question, row in zip(questions, right, strict=True):
            print(f"{''.join('+' if one else '.' for one in row)}  {question}")
        first, in_row = np.mean([row[0] for row in right]), np.mean([any(row) for row in right])
        how = f", {first_images} re-ranked" if first_images else ""
        print(
            f"{len(right)} queries, {len(index)} images{how}: first is right {first:.0%}, one of {ROW} is {in_row:.0%}"
        )


if __name__ == "__main__":
    main()
