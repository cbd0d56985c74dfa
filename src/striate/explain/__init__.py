"""Seeing inside a network: what each way of explaining is called, where it is, what it looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from striate.explain.explanation import Explanation


class Method(NamedTuple):
    """One way of explaining. `function` is `module:function` of this folder, imported when it is asked for; it takes
    the model and a Request and gives an Explanation.

    Attributes:
        takes: which fields of the Request it reads, besides `sources`, `seed` and `say`.
        asks: what the model must be able to say: `score`, how much speaks for a class (its task is Explainable);
            `confidence` of a class, too; `answer`, of which class the picture is.
    """

    function: str
    needs: Literal["network", "pictures", "data"]
    about: str
    takes: tuple[str, ...]
    asks: Literal["", "score", "confidence", "answer"] = ""


# a new explanation: its file, and its line here
METHODS: dict[str, Method] = {
    "gradcam": Method(
        "attribution.pages:explain_gradcam",
        "pictures",
        "which regions speak for a class (Grad-CAM)",
        ("label", "layer", "limit"),
        "score",
    ),
    "guided": Method(
        "attribution.pages:explain_guided",
        "pictures",
        "guided backpropagation, and with Grad-CAM's regions",
        ("label", "layer", "limit"),
        "score",
    ),
    "integrated": Method(
        "attribution.pages:explain_integrated", "pictures", "integrated gradients", ("label", "limit", "steps"), "score"
    ),
    "occlusion": Method(
        "attribution.pages:explain_occlusion",
        "pictures",
        "how the score falls where a patch is covered",
        ("label", "limit", "steps"),
        "score",
    ),
    "saliency": Method(
        "attribution.pages:explain_saliency",
        "pictures",
        "the gradient, the mean of noisy copies (SmoothGrad)",
        ("label", "limit", "steps"),
        "score",
    ),
    "slide": Method(
        "score_map:explain_slide",
        "pictures",
        "a classifier slid over the picture: where it sees what",
        ("label", "limit", "steps"),
        "answer",
    ),
    "sanity": Method(
        "attribution.sanity:explain_sanity",
        "pictures",
        "are the explanations themselves to be believed?",
        ("label", "layer", "limit"),
        "confidence",
    ),
    "filters": Method("units.filters:explain_filters", "network", "the filters of the first layer", ("layer", "units")),
    "features": Method(
        "units.filters:explain_features",
        "pictures",
        "feature maps, layer by layer",
        ("layer", "units", "limit"),
        "score",
    ),
    "top": Method(
        "units.top_activations:explain_top", "data", "the crops that most excite a unit", ("layer", "units", "limit")
    ),
    "deconvnet": Method(
        "units.deconvnet:explain_deconvnet",
        "data",
        "the top crops, each projected back to pixels",
        ("layer", "units", "limit"),
    ),
    "maximize": Method(
        "units.maximization:explain_maximize",
        "network",
        "a picture made to excite a unit or class",
        ("label", "layer", "units", "steps"),
    ),
    "dissect": Method(
        "units.dissection_page:explain_dissect",
        "data",
        "units matched with concepts of segmented pictures",
        ("layer", "units", "limit"),
    ),
    "landscape": Method(
        "landscape.pages:explain_landscape",
        "data",
        "the loss around the weights, filter-normalised",
        ("limit", "steps", "other"),
    ),
    "adversary": Method(
        "attacks.adversary:explain_adversary",
        "pictures",
        "noise nobody sees that changes the answer",
        ("label", "limit", "epsilon", "steps", "attack"),
        "answer",
    ),
    "robust_accuracy": Method(
        "attacks.robust_accuracy:explain_robust_accuracy",
        "data",
        "accuracy under FGSM and PGD against their strength",
        ("limit", "epsilon", "steps", "other"),
        "answer",
    ),
}

RENAMED = {"epsilons": "robust_accuracy"}  # old names, understood for one version


def explain(model: Any, sources: Any = None, how: str = "gradcam", **options: Any) -> Explanation:
    """Explain a model by one of METHODS; `options` are the fields of `Request`.

    Raises:
        UsageError: no such method or option, one that the method does not read, pictures or data that are not given,
            or a model that cannot be explained so.
    """
    from dataclasses import replace
    from importlib import import_module

    from striate.errors import UsageError, did_you_mean
    from striate.explain.explanation import Request

    unknown = set(options) - set(Request.__dataclass_fields__)
    if unknown:
        name = min(unknown)
        raise UsageError(f'no option "{name}".{did_you_mean(name, Request.__dataclass_fields__)}')
    asked, how = how, RENAMED.get(how, how)
    check([how], sources, options)
    check_model(model, [how], options)
    module, _, name = METHODS[how].function.partition(":")
    function: Callable[[Any, Request], Explanation] = getattr(import_module(f"striate.explain.{module}"), name)
    explanation = function(model, Request(sources, **options))
    facts = {"model": repr(model), **explanation.facts}
    given = [repr(sources)] if isinstance(sources, str) else [] if sources is None else ["sources"]
    call = ", ".join([*given, f"how={how!r}", *(f"{key}={value!r}" for key, value in options.items() if key != "say")])
    notes = [*explanation.notes, *([renamed(asked)] if asked != how else [])]
    return replace(explanation, facts=facts, notes=notes, commands=explanation.commands or [f"model.explain({call})"])


def renamed(how: str) -> str:
    """What to say to those who call a way by its old name."""
    return f"{how} is called {RENAMED[how]} now; the old name goes with the next version"


def check(ways: Sequence[str], sources: Any, options: Mapping[str, Any]) -> None:
    """Refuse what cannot be, before anything is loaded.

    Args:
        sources: what is given to look at; None, or nothing in it: nothing.
        options: fields of a Request by name; those that are None are not asked for.

    Raises:
        UsageError: no such method, pictures or data that are not given, a data set where pictures are wanted, or an
            option that none of the methods reads.
    """
    from striate.errors import UsageError, did_you_mean

    for how in ways:
        if how not in METHODS:
            raise UsageError(
                f'no explanation is called "{how}"; there are {", ".join(METHODS)}.{did_you_mean(how, METHODS)}'
            )
        needs = METHODS[how].needs
        if needs == "pictures":
            _check_pictures(how, sources)
        if needs == "data" and not _is_given(sources):
            raise UsageError(f"{how} needs a data set: name one as for striate train")
    for name, value in options.items():
        takers = [how for how, method in METHODS.items() if name in method.takes]
        if value is not None and takers and not set(takers) & set(ways):
            raise UsageError(f"{name} means nothing to {', '.join(ways)}: it is for {', '.join(takers)}")


def check_model(model: Any, ways: Sequence[str], options: Mapping[str, Any]) -> None:
    """Refuse a model that some of the methods cannot explain so, before any of them begins.

    Raises:
        UsageError: with the method and the model's task, or the layers that there are.
    """
    from striate.errors import UsageError
    from striate.explain.explained import explainable
    from striate.explain.layers import find_layer

    if options.get("layer") is not None:
        find_layer(model.module, options["layer"])
    result = model.task.result
    for how in ways:
        asks = METHODS[how].asks
        if asks == "answer" and not result.has_answer:
            raise UsageError(f"{how} is for classifiers; this model's task is {model.task.name}")
        if asks == "confidence" and not result.has_confidence:
            raise UsageError(f"{how} is for classifiers and detectors; this model's task is {model.task.name}")
        if asks in ("score", "confidence"):
            explainable(model.task)


def _is_given(sources: Any) -> bool:
    return sources is not None and not (isinstance(sources, list | tuple | str) and not sources)


def _check_pictures(how: str, sources: Any) -> None:
    from pathlib import Path

    from striate.errors import UsageError

    if not _is_given(sources):
        raise UsageError(f"{how} needs pictures: name files, or a folder")
    words = sources if isinstance(sources, list | tuple) else [sources]
    for word in words:
        if not isinstance(word, str) or not word.replace("_", "").isalnum() or Path(word).exists():
            continue
        from striate.data.formats import builtin, vision

        if word in (*builtin.NAMES, *vision.SETS):
            raise UsageError(f"{word} is a data set, and {how} looks at pictures: {word}:test names some of it")
