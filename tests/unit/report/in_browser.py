"""Looks at a page in a browser: what can be read, reached, and told apart there."""

from __future__ import annotations

from typing import Any

# Text that is seen, with the contrast to what is behind it. Text of drawings is filled, and over
# pictures its outline is what is behind it.
_CONTRASTS = """() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = (top, ground) => {
    const part = top[3];
    return [0, 1, 2].map((i) => top[i] * part + ground[i] * (1 - part)).concat(1);
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement)
      layers.push(parse(getComputedStyle(one).backgroundColor));
    const dark = getComputedStyle(document.documentElement).colorScheme.includes("dark") &&
      matchMedia("(prefers-color-scheme: dark)").matches;
    let ground = dark ? [18, 18, 18, 1] : [255, 255, 255, 1];
    for (const layer of layers.reverse()) if (layer[3] > 0) ground = over(layer, ground);
    return ground;
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    if (["SCRIPT", "STYLE", "OPTION"].includes(element.tagName)) continue;
    const text = [...element.childNodes].filter((node) => node.nodeType === 3)
      .map((node) => node.textContent.trim()).join(" ").trim();
    const box = element.getBoundingClientRect();
    if (!text || !box.width || !box.height || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const isDrawn = element instanceof SVGElement;
    let front = parse(isDrawn ? style.fill : style.color);
    const outlined = isDrawn && style.stroke !== "none";
    const ground = outlined ? parse(style.stroke) : behind(element);
    let opacity = 1;
    for (let one = element; one; one = one.parentElement)
      opacity *= Number(getComputedStyle(one).opacity);
    front = over([front[0], front[1], front[2], front[3] * opacity], ground);
    const [a, b] = [light(front), light(ground)].sort((x, y) => y - x);
    found.push({ text: text.slice(0, 40), ratio: (a + 0.05) / (b + 0.05) });
  }
  return found;
}"""

_FAULTS = """() => {
  const faults = [];
  const labels = (element) => [...(element.labels || [])].map((one) => one.textContent).join("");
  const name = (element) => (element.getAttribute("aria-label")
    || (element.tagName === "SELECT" ? "" : element.textContent) || labels(element)).trim();
  const headings = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")];
  if (headings.filter((one) => one.tagName === "H1").length !== 1) faults.push("not one h1");
  let level = 0;
  for (const one of headings) {
    const own = Number(one.tagName[1]);
    if (own > level + 1) faults.push(`h${own} after h${level}: ${one.textContent.trim()}`);
    if (!one.textContent.trim()) faults.push("an empty heading");
    level = own;
  }
  for (const one of document.querySelectorAll("img")) if (!one.alt) faults.push("img without alt");
  for (const one of document.querySelectorAll("svg"))
    if (!one.closest("[aria-hidden=true]") && !one.getAttribute("aria-label")
        && !one.parentElement.closest("svg")) faults.push("svg without a label");
  for (const one of document.querySelectorAll("button, a, summary, select, input"))
    if (!name(one)) faults.push(`${one.tagName} without a name`);
  for (const one of document.querySelectorAll("[tabindex]"))
    if (!one.getAttribute("aria-label")) faults.push(`${one.className} has focus and no name`);
  for (const one of document.querySelectorAll("table")) {
    const said = one.caption || one.closest("[aria-label]") || one.closest("details")
      || one.getAttribute("aria-labelledby");
    if (!said) faults.push("a table without caption or label");
    for (const cell of one.querySelectorAll("th")) if (!cell.scope) faults.push("th without scope");
  }
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  for (const id of ids) if (ids.filter((one) => one === id).length > 1) faults.push(`twice: ${id}`);
  return faults;
}"""


def contrasts(page: Any) -> list[tuple[float, str]]:
    """Every visible text of a page with its contrast, the lowest first."""
    return sorted((one["ratio"], one["text"]) for one in page.evaluate(_CONTRASTS))


def faults(page: Any) -> list[str]:
    """What keeps people from hearing or reaching something of a page."""
    return page.evaluate(_FAULTS)


def overflow(page: Any) -> int:
    """Pixels by which a page is wider than its window."""
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def reached_by_keys(page: Any) -> list[str]:
    """Where Tab goes from the top of a page: a mark of each control, until it comes round."""
    page.evaluate("""() => {
      document.querySelectorAll("a, button, select, input, summary, [tabindex]")
        .forEach((one, place) => { one.dataset.mark = `${one.tagName} ${place}`; });
      document.activeElement.blur();
    }""")
    reached: list[str] = []
    for _ in range(400):
        page.keyboard.press("Tab")
        mark = page.evaluate("document.activeElement.dataset.mark || ''")
        if not mark or mark in reached:
            break
        reached.append(mark)
    return reached


def controls(page: Any) -> list[str]:
    """Marks of all controls that are seen; after `reached_by_keys`."""
    return page.evaluate("""() => [...document.querySelectorAll("[data-mark]")]
      .filter((one) => one.checkVisibility() && one.getBoundingClientRect().width)
      .map((one) => one.dataset.mark)""")
