"""Measures of one answer in words, each from 0 to 1."""

from __future__ import annotations

import functools
import re
from typing import Any

from sightline.errors import ConfigError

_ANLS_THRESHOLD = 0.5
_CHART_TOLERANCE = 0.05
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?")
ANLS_LIBRARY = "rapidfuzz.distance"
ROUGE_LIBRARY = "rouge_score.rouge_scorer"
_CURRENCY = "$€£¥"


def exact_match(answer: str, annotation: str) -> float:
    """1 where both are equal to the letter, white space at their ends left out.

    >>> exact_match(" A cat. ", "A cat."), exact_match("a cat.", "A cat.")
    (1.0, 0.0)
    """
    return float(answer.strip() == annotation.strip())


def anls(answer: str, annotation: str) -> float:
    """Normalised Levenshtein similarity, 0 up to a half; letters' case left out.

    Reference:
        The measure of ST-VQA and DocVQA (Biten et al. 2019), by rapidfuzz; checked in
        tests/parity/test_text_metrics.py.

    >>> anls("Hello", "hallo"), anls("yes", "no")
    (0.8, 0.0)
    """
    distance = kept(ANLS_LIBRARY).Levenshtein
    one, other = answer.strip().lower(), annotation.strip().lower()
    similarity = float(distance.normalized_similarity(one, other))
    return similarity if similarity > _ANLS_THRESHOLD else 0.0


def relaxed_accuracy(answer: str, annotation: str) -> float:
    """1 where a number is within 5 % of the annotated one, or words are equal but for their case.

    Reference:
        The measure of ChartQA (Masry et al. 2022): a percent sign divides by 100.

    >>> relaxed_accuracy("104", "100"), relaxed_accuracy("106", "100"), relaxed_accuracy("No", "no")
    (1.0, 0.0, 1.0)
    """
    given, wanted = number_of(answer), number_of(annotation)
    if given is None or not wanted:
        # Nothing is within 5 % of zero but zero.
        same = given is not None and given == wanted
        return float(same or answer.strip().lower() == annotation.strip().lower())
    return float(abs(given - wanted) / abs(wanted) <= _CHART_TOLERANCE)


def rouge_l(answer: str, annotation: str) -> float:
    """F-measure of the longest common subsequence of words.

    Reference:
        ROUGE-L of Google's rouge-score, words not stemmed.

    >>> rouge_l("a red circle", "a big red circle")
    0.8571428571428571
    """
    return float(_rouge_scorer().score(annotation, answer)["rougeL"].fmeasure)


def number_of(text: str) -> float | None:
    """The number that a text is; None where it is none.

    >>> number_of("$1,250.50"), number_of("5 %"), number_of("two"), number_of("")
    (1250.5, 0.05, None, None)
    """
    said = text.strip().rstrip(".").strip()
    is_percent = said.endswith("%")
    said = said.removesuffix("%").strip().lstrip(_CURRENCY).strip()
    if not said or _NUMBER.fullmatch(said) is None or not any(map(str.isdigit, said)):
        return None
    try:
        number = float(said.replace(",", ""))
    except ValueError:
        return None
    return number / 100 if is_percent else number


@functools.cache
def _rouge_scorer() -> Any:
    return kept(ROUGE_LIBRARY).RougeScorer(["rougeL"], use_stemmer=False)


@functools.cache
def kept(name: str) -> Any:
    """A module of the extra ``evaluation``.

    Raises:
        ConfigError: It is not installed.
    """
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0].replace("_", "-")
        raise ConfigError(
            f"this measure is {package}'s, which is not installed.\n"
            "pip install 'sightline[evaluation]', or leave the measure out of --metrics."
        ) from error
