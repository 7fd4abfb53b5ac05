"""Chat templates with the behaviour of the real ones, in our own words.

Turns open with ``<|im_start|>ROLE`` and close with ``<|im_end|>``. Content is a text, or a list of
parts. Pictures and videos are numbered through the conversation when ``add_vision_id`` is given.
Tools are left out.
"""

from __future__ import annotations

_MACROS = """\
{%- set seen = namespace(images=0, videos=0) -%}
{%- macro turn(role, words) -%}
  {{- "<|im_start|>" ~ role ~ "\\n" ~ words ~ "<|im_end|>\\n" -}}
{%- endmacro -%}
{%- macro number(name, count) -%}
  {%- if add_vision_id is defined and add_vision_id -%}
    {{- name ~ " " ~ count ~ ": " -}}
  {%- endif -%}
{%- endmacro -%}
{%- macro parts(content) -%}
  {%- if content is string -%}
    {{- content -}}
  {%- else -%}
    {%- for part in content -%}
      {%- if part.type == "image" or "image" in part or "image_url" in part -%}
        {%- set seen.images = seen.images + 1 -%}
        {{- number("Picture", seen.images) ~ "<|vision_start|><|image_pad|><|vision_end|>" -}}
      {%- elif part.type == "video" or "video" in part -%}
        {%- set seen.videos = seen.videos + 1 -%}
        {{- number("Video", seen.videos) ~ "<|vision_start|><|video_pad|><|vision_end|>" -}}
      {%- elif "text" in part -%}
        {{- part.text -}}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{%- macro texts(content) -%}
  {%- if content is string -%}
    {{- content -}}
  {%- else -%}
    {%- for part in content if "text" in part -%}
      {{- part.text -}}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
"""

_ANSWER = """\
{%- if add_generation_prompt -%}
  {{- "<|im_start|>assistant\\n" -}}
{%- endif -%}
"""

# Every role may hold pictures, and a conversation without a system turn gets one.
_QWEN2_TURNS = """\
{%- if messages[0].role != "system" -%}
  {{- turn("system", "You are a helpful assistant.") -}}
{%- endif -%}
{%- for message in messages -%}
  {{- turn(message.role, parts(message.content)) -}}
{%- endfor -%}
"""

# Only the user's turns hold pictures, and a system turn counts only where it comes first:
# anything else in those places is passed over, as the real template does.
_QWEN3_TURNS = """\
{%- if messages[0].role == "system" -%}
  {{- turn("system", texts(messages[0].content)) -}}
{%- endif -%}
{%- for message in messages -%}
  {%- if message.role == "user" -%}
    {{- turn("user", parts(message.content)) -}}
  {%- elif message.role == "assistant" -%}
    {{- turn("assistant", texts(message.content)) -}}
  {%- endif -%}
{%- endfor -%}
"""

QWEN2_TEMPLATE = _MACROS + _QWEN2_TURNS + _ANSWER
QWEN3_TEMPLATE = _MACROS + _QWEN3_TURNS + _ANSWER
