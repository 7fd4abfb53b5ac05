"""Decoding along a known answer, through ``generate`` itself."""

from __future__ import annotations

import torch
from transformers import GenerationConfig

from sightline.checks.context import VerifyContext
from sightline.checks.plain import before_last_answer
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
    is_placed = sample.index in context.misplaced
    made = context.kept(f"forced {sample.index} {is_placed}", lambda: _forced(context, sample))
    return made["logits"], made["columns"]


def _forced(context: VerifyContext, sample: ProbeSample) -> dict[str, torch.Tensor]:
    inputs = context.plain_inputs([before_last_answer(sample.messages)], generation_prompt=True)
    width = inputs["input_ids"].shape[1]
    if not torch.equal(inputs["input_ids"][0], sample.input_ids[:width]):
        raise VerifyError(
            f"{sample.file}:{sample.line}: the prompt has {width} tokens, but they are not the "
            f"first {width} of the {len(sample.input_ids)} of training. The chat template opens "
            "the answer differently.\nPut the template of training back, or train with this one."
        )
    answer = _answer(context, sample, width)
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
    columns = torch.arange(width - 1, width - 1 + len(logits))
    return {"logits": logits, "columns": columns}


def _answer(context: VerifyContext, sample: ProbeSample, start: int) -> list[int]:
    """The last answer and its closing token; not by the labels, which may be at fault."""
    tokenizer, tokens = context.checkpoint.processor.tokenizer, context.checkpoint.family.tokens
    ids = sample.input_ids[start:].tolist()
    return ids[: ids.index(tokenizer.convert_tokens_to_ids(tokens.turn_end)) + 1]
