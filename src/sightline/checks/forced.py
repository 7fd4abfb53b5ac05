"""Decoding along a known answer, through ``generate`` itself."""

from __future__ import annotations

import torch
from transformers import GenerationConfig

from sightline.checks.context import VerifyContext
from sightline.checks.plain import before_last_answer, plain_inputs
from sightline.data import IGNORE_INDEX
from sightline.errors import VerifyError
from sightline.evaluation import ProbeSample


def forced_logits(context: VerifyContext, sample: ProbeSample) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of every step when generate is made to write the annotation.

    Args:
        context: The run under verification.
        sample: A probe sample.

    Returns:
        (num_steps, vocabulary) float32, and the columns of the whole conversation that predict
        the same tokens, (num_steps,) int64.
    """
    start = answer_start(sample)
    answer = sample.input_ids[start:]
    answer = answer[: int((sample.labels[start:] != IGNORE_INDEX).sum())].tolist()
    inputs = plain_inputs(
        context.checkpoint.processor,
        [before_last_answer(sample.messages)],
        generation_prompt=True,
    )
    width = inputs["input_ids"].shape[1]
    if width != start:
        raise VerifyError(
            f"{sample.file}:{sample.line}: the prompt has {width} tokens, but the answer began "
            f"at token {start} in training. The chat template opens the answer differently."
        )
    settings = GenerationConfig(
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        max_new_tokens=len(answer),
        min_new_tokens=len(answer),
        eos_token_id=None,
        pad_token_id=int(sample.input_ids[0]),
        output_logits=True,
        return_dict_in_generate=True,
    )
    with torch.no_grad():
        made = context.model.generate(
            **context.placed(context.on_device(inputs), [sample]),
            generation_config=settings,
            prefix_allowed_tokens_fn=lambda _, ids: [answer[len(ids) - width]],
        )
    logits = torch.stack([step[0].float().cpu() for step in made.logits])
    columns = torch.arange(start - 1, start - 1 + len(logits))
    return logits, columns


def answer_start(sample: ProbeSample) -> int:
    """Index of the first token of the last answer."""
    supervised = (sample.labels != IGNORE_INDEX).nonzero().squeeze(1).tolist()
    first = supervised[-1]
    while first > 0 and sample.labels[first - 1] != IGNORE_INDEX:
        first -= 1
    return first
