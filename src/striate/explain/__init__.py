"""Seeing inside a network: what each way of explaining is called, where it is, what it looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from striate.explain.explanation import Explanation


class Method(NamedTuple):
    """One way of explaining. `function` is `module:function` of this folder, imported when it is asked for; it takes
    the model and a Request and gives an Explanation."""

    function: str
    needs: Literal["network", "pictures", "data"]
    about: str


# a new explanation: its file, and its line here
METHODS: dict[str, Method] = {
    "gradcam": Method("attribution_pages:explain_gradcam", "pictures", "which regions speak for a class (Grad-CAM)"),
    "guided": Method(
        "attribution_pages:explain_guided", "pictures", "guided backpropagation, and with Grad-CAM's regions"
    ),
    "integrated": Method("attribution_pages:explain_integrated", "pictures", "integrated gradients"),
    "occlusion": Method(
        "attribution_pages:explain_occlusion", "pictures", "how the score falls where a patch is covered"
    ),
    "saliency": Method(
        "attribution_pages:explain_saliency", "pictures", "the gradient, the mean of noisy copies (SmoothGrad)"
    ),
    "sanity": Method("sanity:explain_sanity", "pictures", "are the explanations themselves to be believed?"),
    "filters": Method("filters:explain_filters", "network", "the filters of the first layer"),
    "features": Method("filters:explain_features", "pictures", "feature maps, layer by layer"),
    "top": Method("top_activations:explain_top", "data", "the crops that most excite a unit"),
    "deconvnet": Method("deconvnet:explain_deconvnet", "data", "the top crops, each projected back to pixels"),
    "maximize": Method("maximization:explain_maximize", "network", "a picture made to excite a unit or class"),
    "dissect": Method("dissection_page:explain_dissect", "data", "units matched with concepts of segmented pictures"),
    "landscape": Method("landscape:explain_landscape", "data", "the loss around the weights, filter-normalised"),
    "adversary": Method("adversary:explain_adversary", "pictures", "noise nobody sees that changes the answer"),
    "epsilons": Method("epsilons:explain_epsilons", "data", "accuracy under FGSM and PGD against their strength"),
}


def explain(model: Any, sources: Any = None, how: str = "gradcam", **options: Any) -> Explanation:
    """Explain a model by one of METHODS; `options` are the fields of `Request`.

    Raises:
        UsageError: no such method or option, or it needs pictures or data that are not given.
    """
    from dataclasses import replace
    from importlib import import_module

    from striate.errors import UsageError, did_you_mean
    from striate.explain.explanation import Request

    check(how, sources is not None)
    unknown = set(options) - set(Request.__dataclass_fields__)
    if unknown:
        name = min(unknown)
        raise UsageError(f'no option "{name}".{did_you_mean(name, Request.__dataclass_fields__)}')
    module, _, name = METHODS[how].function.partition(":")
    function: Callable[[Any, Request], Explanation] = getattr(import_module(f"striate.explain.{module}"), name)
    explanation = function(model, Request(sources, **options))
    facts = {"model": repr(model), **explanation.facts}
    given = [repr(sources)] if isinstance(sources, str) else [] if sources is None else ["sources"]
    call = ", ".join([*given, f"how={how!r}", *(f"{key}={value!r}" for key, value in options.items() if key != "say")])
    return replace(explanation, facts=facts, commands=explanation.commands or [f"model.explain({call})"])


def check(how: str, has_sources: bool) -> None:
    """Refuse what cannot be, before anything is loaded.

    Raises:
        UsageError: no such method, or it needs pictures or data that are not given.
    """
    from striate.errors import UsageError, did_you_mean

    if how not in METHODS:
        raise UsageError(
            f'no explanation is called "{how}"; there are {", ".join(METHODS)}.{did_you_mean(how, METHODS)}'
        )
    needs = METHODS[how].needs
    if needs != "network" and not has_sources:
        what = (
            "pictures: name files, or a folder" if needs == "pictures" else "a data set: name one as for striate train"
        )
        raise UsageError(f"{how} needs {what}")
