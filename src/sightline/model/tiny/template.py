"""Chat templates with the behaviour of the real ones, in our own words."""

from __future__ import annotations

# Turns open with <|im_start|>ROLE and close with <|im_end|>; content is a text, or a list of
# parts. Pictures and videos are numbered when add_vision_id is given.
_TURNS = """\
{%- set seen = namespace(images=0, videos=0) -%}
{%- macro parts(content) -%}
  {%- if content is string -%}
    {{- content -}}
  {%- else -%}
    {%- for part in content -%}
      {%- if part.type == "image" or "image" in part or "image_url" in part -%}
        {%- set seen.images = seen.images + 1 -%}
        {%- if add_vision_id is defined and add_vision_id -%}
          {{- "Picture " ~ seen.images ~ ": " -}}
        {%- endif -%}
        {{- "<|vision_start|><|image_pad|><|vision_end|>" -}}
      {%- elif part.type == "video" or "video" in part -%}
        {%- set seen.videos = seen.videos + 1 -%}
        {%- if add_vision_id is defined and add_vision_id -%}
          {{- "Video " ~ seen.videos ~ ": " -}}
        {%- endif -%}
        {{- "<|vision_start|><|video_pad|><|vision_end|>" -}}
      {%- elif "text" in part -%}
        {{- part.text -}}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
  DEFAULT_SYSTEM
  {{- "<|im_start|>" ~ message.role ~ "\\n" ~ parts(message.content) ~ "<|im_end|>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- "<|im_start|>assistant\\n" -}}
{%- endif -%}
"""

_DEFAULT_SYSTEM = """\
{%- if loop.first and message.role != "system" -%}
    {{- "<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n" -}}
  {%- endif -%}"""


def chat_template(family: str) -> str:
    """The template of a family: Qwen3-VL has no system prompt of its own, the others do."""
    default = "" if family == "qwen3_vl" else _DEFAULT_SYSTEM
    return _TURNS.replace("DEFAULT_SYSTEM", default)
