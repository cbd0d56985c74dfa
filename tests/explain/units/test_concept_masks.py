from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from striate.config import Preprocess
from striate.data.masks import rasterize
from striate.data.shapes import draw_scene
from striate.errors import DataError, ImageError
from striate.explain.units.concept_masks import Scene, fitted, open_scenes, read_indices


def write(path, values) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def test_shapes_masks_are_their_instances():
    scenes = open_scenes("shapes:val", limit=2)
    assert scenes.concepts == ("circle", "square", "triangle", "star", "ring")
    assert len(scenes) == 2
    whole = open_scenes("shapes:val", limit=1000)
    scene = next(iter(whole))
    objects = draw_scene(0, 640)[1]
    for at, concept in enumerate(whole.concepts):
        area = float(objects.areas[objects.labels == at].sum())
        assert int(scene.masks[concept].sum() if concept in scene.masks else 0) == area
    assert sum(int(mask.sum()) for mask in scene.masks.values()) == int(objects.areas.sum())


def test_polygons_are_what_pycocotools_fills():
    run_lengths = pytest.importorskip("pycocotools.mask")
    polygons = [[3.0, 2.0, 12.0, 4.0, 9.0, 14.0], [14.0, 14.0, 18.0, 14.0, 18.0, 18.0, 14.0, 18.0]]
    expected = run_lengths.decode(run_lengths.merge(run_lengths.frPyObjects(polygons, 20, 24)))
    assert torch.equal(rasterize(polygons, (20, 24)), torch.from_numpy(expected).bool())
    runs = run_lengths.encode(np.asfortranarray(expected))
    assert torch.equal(rasterize(runs, (20, 24)), torch.from_numpy(expected).bool())
    assert not rasterize([[1.0, 1.0, 5.0, 5.0]], (20, 24)).any()


def test_folders_of_pictures_and_masks_with_names(tmp_path):
    write(tmp_path / "images" / "a.png", np.zeros((4, 6, 3)))
    write(tmp_path / "images" / "alone.png", np.zeros((4, 6, 3)))
    write(tmp_path / "masks" / "a.png", [[0, 1, 2], [3, 255, 1]])  # half as large as its picture
    (tmp_path / "classes.txt").write_text("grass\nsheep\nvoid\n")
    scenes = open_scenes(tmp_path, 10)
    assert scenes.concepts == ("grass", "sheep")
    (scene,) = scenes
    assert scene.name == "a.png"
    assert scene.masks["sheep"].tolist()[0] == [False, False, True, True, False, False]
    assert scene.known is not None
    assert scene.known.tolist() == [[True] * 4 + [False] * 2] * 2 + [[False] * 4 + [True] * 2] * 2


def test_masks_without_names(tmp_path):
    write(tmp_path / "train" / "a.png", np.zeros((2, 2, 3)))
    write(tmp_path / "trainannot" / "a.png", [[0, 4], [255, 1]])
    assert open_scenes(tmp_path, 10).concepts == ("label 0", "label 1", "label 2", "label 3", "label 4")
    write(tmp_path / "trainannot" / "a.png", [[0, 255], [255, 0]])
    binary = open_scenes(tmp_path, 10)
    assert binary.concepts == ("background", "foreground")
    (scene,) = binary
    assert scene.masks["foreground"].tolist() == [[False, True], [True, False]]


def test_camvid(shared_data):
    scenes = open_scenes(shared_data("camvid12"), 1000)
    assert len(scenes) == 59
    assert scenes.concepts[:3] == ("sky", "building", "pole")
    assert len(scenes.concepts) == 11
    scene = next(iter(scenes))
    assert scene.picture.shape == (3, 360, 480)
    assert scene.known is not None
    assert torch.equal(sum(mask.int() for mask in scene.masks.values()), scene.known.int())
    # the sky is up and the road is down
    rows = torch.arange(360).float()[:, None]
    assert float((rows * scene.masks["sky"]).sum() / scene.masks["sky"].sum()) < 150
    assert float((rows * scene.masks["road"]).sum() / scene.masks["road"].sum()) > 220


def test_coco_polygons_and_objects_without_masks(tmp_path):
    write(tmp_path / "train" / "a.png", np.zeros((20, 20, 3)))
    rows = [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 7,
            "bbox": [2, 2, 8, 8],
            "segmentation": [[2, 2, 10, 2, 10, 10, 2, 10]],
        },
        {"id": 2, "image_id": 1, "category_id": 7, "bbox": [12, 12, 4, 4]},
    ]
    for row in rows:
        row |= {"area": 16, "iscrowd": 0}
    told = {
        "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 20}],
        "annotations": rows,
        "categories": [{"id": 7, "name": "cat"}],
    }
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(told))
    (scene,) = open_scenes(tmp_path, 10)
    assert int(scene.masks["cat"].sum()) == 64
    assert scene.known is not None
    assert int((~scene.known).sum()) == 16


def test_fitted_as_the_network_sees_it():
    mask = torch.zeros(10, 20, dtype=torch.bool)
    mask[:, 10:] = True
    scene = Scene(torch.zeros(3, 10, 20, dtype=torch.uint8), {"right": mask}, None, "x")
    preprocess = Preprocess(size=(8, 8), fit="pad", fill=114)
    picture, masks, known = fitted(scene, ("right", "none"), preprocess)
    assert picture.shape == (3, 8, 8)
    assert masks.shape == (2, 8, 8)
    assert known.sum(1).tolist() == [0, 0, 8, 8, 8, 8, 0, 0]
    assert masks[0].sum(1).tolist() == [0, 0, 4, 4, 4, 4, 0, 0]
    assert not masks[1].any()
    assert (picture[:, 0] == 114).all()


def test_what_cannot_be_used(tmp_path):
    with pytest.raises(DataError, match="no masks here"):
        open_scenes("digits", 10)
    write(tmp_path / "rgb.png", np.zeros((2, 2, 3)))
    with pytest.raises(ImageError, match="one channel of indices, this has 3"):
        read_indices(tmp_path / "rgb.png")
    (tmp_path / "broken.png").write_bytes(b"x")
    with pytest.raises(ImageError, match=r"broken\.png"):
        read_indices(tmp_path / "broken.png")
    with pytest.raises(DataError):
        open_scenes(str(tmp_path / "nowhere"), 10)
