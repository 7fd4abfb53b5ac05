"""Answers, the boxes in them, and what a run keeps to be compared with."""

from sightline.evaluation.boxes import LabelledBox, boxes_in_file, find_boxes
from sightline.evaluation.generate import (
    Answer,
    answer_text,
    greedy,
    last_answer,
    same_answer,
)
from sightline.evaluation.pixels import SeenPixels, seen_pixels
from sightline.evaluation.probe import Probe, ProbeSample, load_probe, save_probe

__all__ = [
    "Answer",
    "LabelledBox",
    "Probe",
    "ProbeSample",
    "SeenPixels",
    "answer_text",
    "boxes_in_file",
    "find_boxes",
    "greedy",
    "last_answer",
    "load_probe",
    "same_answer",
    "save_probe",
    "seen_pixels",
]
