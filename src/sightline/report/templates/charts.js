// Curves that answer: every figure with a data block gets a drawing that can be hovered, zoomed
// and read by keys, in place of the still one, which stays for print.
//
// In a figure there is the still drawing, class "chart", and after it the block, a script of the
// type application/json with class "chart-data". The block holds:
// {"title": "Loss", "size": "large", "log": true, "floor": 1e-4, "zero": true, "counts": false,
//  "borders": [{"at": 40, "name": "upper"}],
//  "series": [{"name": "train", "key": "loss", "x": [1, 2], "y": [6.1, 5.2]}]}
//
// The legend tells the last value of each series, or its highest where "told" is "peak".
// A series is coloured by the class of-KEY. New data of a running run:
// figure.dispatchEvent(new CustomEvent("chart-data", {detail: data})).
(() => {
  "use strict";
  // The name space by which a browser knows drawings, without an address in the page.
  const SVG = new DOMParser().parseFromString("<svg></svg>", "text/html").body.firstChild
    .namespaceURI;
  const HEIGHTS = { large: 320, medium: 240, small: 150 };
  const LEFT = 56, RIGHT = 18, TOP = 24, BOTTOM = 30;
  const LEAST_DRAG = 6; // pixels; less is a click
  const charts = [];

  function html(name, attributes, parent, text) {
    const made = document.createElement(name);
    return dressed(made, attributes, parent, text);
  }
  function svg(name, attributes, parent, text) {
    return dressed(document.createElementNS(SVG, name), attributes, parent, text);
  }
  function dressed(made, attributes, parent, text) {
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  }
  const classOf = (key) => "of-" + String(key).replace(/[^A-Za-z0-9-]/g, "-");
  const bounded = (value, low, high) => Math.min(Math.max(value, low), high);

  // As quantities.number_text says numbers: three digits, small ones with an exponent.
  function numberText(value, counts) {
    if (counts) return Math.round(value).toLocaleString("en");
    const size = Math.abs(value);
    if (value === 0 || (size >= 0.01 && size < 10000)) return String(Number(value.toPrecision(3)));
    const [mantissa, exponent] = value.toExponential(2).split("e");
    return `${Number(mantissa)}e${Number(exponent)}`;
  }
  const stepText = (step) => step.toLocaleString("en", { maximumFractionDigits: 2 });

  function roundValues(low, high, count, whole) {
    let rough = (high - low) / count;
    if (whole) rough = Math.max(rough, 1);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => power * factor >= rough * (1 - 1e-9));
    const values = [];
    for (let place = Math.ceil(low / step - 1e-9); place * step <= high + step * 1e-9; place++)
      values.push(place * step || 0); // not -0
    return values;
  }
  // Decades; where a zoom leaves too few, 1, 2 and 5 of each, and then round values.
  function ratioValues(low, high, count) {
    const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
    const every = Math.max(1, Math.ceil((last - first) / count));
    for (const factors of [[1], [1, 2, 5]]) {
      const values = [];
      for (let power = last; power >= first; power -= factors.length > 1 ? 1 : every)
        for (const factor of factors) {
          const value = factor * 10 ** power;
          if (value >= low && value <= high) values.push(value);
        }
      if (values.length > 1) return values;
    }
    return roundValues(low, high, count, false);
  }

  // Place of the point that is nearest to a step.
  function nearest(steps, step) {
    let low = 0, high = steps.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (steps[middle] < step) low = middle + 1;
      else high = middle;
    }
    return low > 0 && step - steps[low - 1] <= steps[low] - step ? low - 1 : low;
  }

  class Chart {
    constructor(figure, data) {
      this.figure = figure;
      this.hidden = new Set();
      this.step = null;
      this.view = null; // [first, last] step where it is zoomed
      this.frame();
      this.take(data);
      this.listen();
      new ResizeObserver(() => this.draw()).observe(this.plot);
    }

    frame() {
      this.figure.classList.add("live");
      this.plot = html("div", { class: "plot", tabindex: "0", role: "application",
        "aria-roledescription": "chart" });
      this.canvas = svg("svg", { class: "chart", "aria-hidden": "true", focusable: "false" },
        this.plot);
      this.tip = html("div", { class: "tip", "aria-hidden": "true" }, this.plot);
      this.tip.hidden = true;
      this.told = html("div", { class: "unseen told", "aria-live": "polite" });
      this.legend = html("div", { class: "legend", role: "group", "aria-label": "Series" });
      const still = this.figure.querySelector(".chart");
      (still || this.figure.firstChild).before(this.plot, this.told, this.legend);
    }

    take(data) {
      this.data = data;
      this.series = data.series.filter((one) => one.x.length);
      // A running run may have nothing to draw at first.
      if (this.isLog === undefined && this.series.length) this.isLog = Boolean(data.log);
      this.steps = [...new Set(this.series.flatMap((one) => one.x))].sort((a, b) => a - b);
      const first = this.steps[0] ?? 0;
      this.whole = [first, Math.max(this.steps[this.steps.length - 1] ?? 1, first + 1)];
      this.plot.setAttribute("aria-label", `${data.title}. Arrow keys read values, plus and ` +
        "minus zoom, Escape shows everything.");
      const legend = JSON.stringify([this.hasPositive(),
        ...this.series.map((one) => [one.name, one.key])]);
      if (legend !== this.written) this.writeLegend();
      else this.writeLast();
      this.written = legend;
      this.draw();
    }

    hasPositive() {
      return this.series.some((one) => one.y.some((value) => value > 0));
    }

    // The legend stays as new points come: its reader may be in it.
    writeLast() {
      this.legend.querySelectorAll(".last").forEach((last, place) => {
        last.textContent = this.lastText(this.series[place]);
      });
    }

    lastText({ y }) {
      const isPeak = this.data.told === "peak";
      return this.text(isPeak ? y.reduce((a, b) => Math.max(a, b)) : y[y.length - 1]);
    }

    writeLegend() {
      this.legend.setAttribute("aria-label", `Series of ${this.data.title}`);
      this.legend.replaceChildren();
      for (const one of this.series) {
        const button = html("button", { type: "button", class: `series ${classOf(one.key)}`,
          "aria-pressed": String(!this.hidden.has(one.name)), title: "Show or hide" },
          this.legend);
        html("span", { class: "stroke", "aria-hidden": "true" }, button);
        html("span", { class: "name" }, button, one.name);
        html("span", { class: "last" }, button, this.lastText(one));
        button.addEventListener("click", () => this.toggle(one, button));
      }
      if (this.hasPositive()) {
        this.logButton = html("button", { type: "button", class: "tool",
          "aria-pressed": String(this.isLog) }, this.legend, "Log");
        this.logButton.addEventListener("click", () => {
          this.isLog = !this.isLog;
          this.logButton.setAttribute("aria-pressed", String(this.isLog));
          this.draw();
        });
      }
      this.resetButton = html("button", { type: "button", class: "tool reset" }, this.legend,
        "Show all steps");
      this.resetButton.hidden = !this.view;
      this.resetButton.addEventListener("click", () => {
        this.zoom(null);
        this.plot.focus();
      });
    }

    toggle(one, button) {
      const shows = this.hidden.delete(one.name);
      if (!shows) this.hidden.add(one.name);
      button.setAttribute("aria-pressed", String(shows));
      this.draw();
    }

    get shown() {
      return this.series.filter((one) => !this.hidden.has(one.name));
    }
    text(value) {
      return numberText(value, this.data.counts);
    }

    // Lowest and highest value of what is seen, with some air.
    valueRange([first, last]) {
      let low = Infinity, high = -Infinity;
      for (const one of this.shown)
        for (let place = 0; place < one.x.length; place++) {
          // The neighbours of the view are seen too: the line goes on to them.
          if ((one.x[place + 1] ?? one.x[place]) < first) continue;
          if ((one.x[place - 1] ?? one.x[place]) > last) break;
          const value = one.y[place];
          if (this.isLog && !(value > 0)) continue;
          low = Math.min(low, value);
          high = Math.max(high, value);
        }
      if (low > high) return this.isLog ? [0.1, 1] : [0, 1];
      if (this.isLog) {
        if (this.data.floor && !this.view) low = Math.max(low, this.data.floor);
        const air = Math.max((high / low) ** 0.06, 1.1);
        return [low / air, high * air];
      }
      if (this.data.zero !== false && !this.view && low >= 0) return [0, high * 1.06 || 1];
      const air = (high - low) * 0.06 || Math.abs(high) * 0.06 || 1;
      return [low - air, high + air];
    }

    draw() {
      const width = this.plot.clientWidth;
      if (!width) return;
      const height = HEIGHTS[this.data.size] || HEIGHTS.medium;
      const [first, last] = this.view || this.whole;
      const [low, high] = this.valueRange([first, last]);
      const inner = { width: width - LEFT - RIGHT, height: height - TOP - BOTTOM };
      this.inner = inner;
      this.x = (step) => ((step - first) / (last - first)) * inner.width;
      this.stepAt = (at) => first + (at / inner.width) * (last - first);
      const part = this.isLog
        ? (value) => Math.log(Math.max(value, low) / low) / Math.log(high / low)
        : (value) => (value - low) / (high - low);
      this.y = (value) => (1 - part(value)) * inner.height;

      this.canvas.replaceChildren();
      this.canvas.setAttribute("viewBox", `0 0 ${width} ${height}`);
      this.canvas.setAttribute("height", height);
      this.drawAxes(width, height, [first, last], [low, high]);
      // A nested drawing clips what is outside the view.
      const clipped = svg("svg", { x: LEFT, y: TOP, width: inner.width, height: inner.height },
        this.canvas);
      for (const one of this.shown) this.drawSeries(one, clipped);
      this.cursor = svg("g", { class: "cursor", transform: `translate(${LEFT} ${TOP})` },
        this.canvas);
      this.drawCursor();
    }

    drawAxes(width, height, [first, last], [low, high]) {
      const count = this.data.size === "small" ? 3 : this.isLog ? 7 : 5;
      const ticks = this.isLog ? ratioValues(low, high, count) : roundValues(low, high, count,
        this.data.counts);
      for (const value of ticks) {
        const y = TOP + this.y(value);
        svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }, this.canvas);
        svg("text", { class: "y-tick", x: LEFT - 8, y: y + 4, "text-anchor": "end" }, this.canvas,
          this.text(value));
      }
      const bottom = height - BOTTOM;
      svg("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: bottom, y2: bottom },
        this.canvas);
      const steps = roundValues(first, last, Math.max(2, Math.floor(this.inner.width / 70)), true);
      for (const step of steps)
        svg("text", { class: "x-tick", x: LEFT + this.x(step), y: height - 11,
          "text-anchor": "middle" }, this.canvas, stepText(step));
      svg("text", { x: LEFT - 8, y: height - 11, "text-anchor": "end" }, this.canvas,
        this.data.axis || "step");
      this.drawBorders([first, last]);
    }

    drawBorders([first, last]) {
      const borders = this.data.borders || [];
      borders.forEach((border, place) => {
        const begin = Math.max(border.at, first);
        const end = Math.min(borders[place + 1] ? borders[place + 1].at : last, last);
        if (begin >= end) return;
        const at = LEFT + this.x(begin);
        if (border.at > first && place)
          svg("line", { class: "border", x1: at, x2: at, y1: TOP - 12,
            y2: TOP + this.inner.height }, this.canvas);
        if (border.name.length * 7 + 6 <= this.x(end) - this.x(begin))
          svg("text", { class: "border-name", x: at + 4, y: TOP - 4 }, this.canvas, border.name);
      });
    }

    drawSeries(one, parent) {
      const points = one.x.map((step, place) =>
        `${this.x(step).toFixed(1)},${this.y(one.y[place]).toFixed(1)}`);
      const group = svg("g", { class: classOf(one.key) }, parent);
      if (points.length > 1) svg("polyline", { points: points.join(" ") }, group);
      // A measure that was taken a few times is points; the line only leads from one to the next.
      if (points.length <= 30)
        one.x.forEach((step, place) => svg("circle", { cx: this.x(step), cy: this.y(one.y[place]),
          r: 2.5 }, group));
    }

    // What each series says nearest to the cursor.
    values() {
      return this.shown.map((one) => {
        const place = nearest(one.x, this.step);
        return { one, step: one.x[place], value: one.y[place] };
      });
    }

    drawCursor() {
      if (!this.cursor) return;
      this.cursor.replaceChildren();
      this.tip.hidden = true;
      const [first, last] = this.view || this.whole;
      if (this.step === null || this.step < first || this.step > last || !this.shown.length) return;
      const x = this.x(this.step);
      svg("line", { x1: x, x2: x, y1: 0, y2: this.inner.height }, this.cursor);
      for (const { one, step, value } of this.values()) {
        if (step < first || step > last) continue;
        svg("circle", { class: classOf(one.key), cx: this.x(step),
          cy: bounded(this.y(value), 0, this.inner.height), r: 4 }, this.cursor);
      }
      if (this.isAsked) this.showTip(x);
    }

    showTip(x) {
      this.tip.replaceChildren();
      html("div", { class: "at" }, this.tip, `${this.data.axis || "step"} ${stepText(this.step)}`);
      for (const { one, step, value } of this.values()) {
        const row = html("div", { class: `row ${classOf(one.key)}` }, this.tip);
        html("span", { class: "stroke" }, row);
        html("span", { class: "name" }, row, one.name);
        html("span", { class: "value" }, row, this.text(value));
        if (step !== this.step) html("span", { class: "from" }, row, `at ${stepText(step)}`);
      }
      this.tip.hidden = false;
      const width = this.plot.clientWidth, at = LEFT + x, own = this.tip.offsetWidth;
      const left = at + 14 + own <= width ? at + 14 : at - 14 - own;
      this.tip.style.left = `${bounded(left, 0, Math.max(0, width - own))}px`;
    }

    // The cursor of every chart of the page goes along.
    point(step, told) {
      this.step = step;
      this.isAsked = step !== null;
      for (const other of charts)
        if (other !== this) {
          other.step = step;
          other.isAsked = false;
          other.drawCursor();
        }
      this.drawCursor();
      if (told && step !== null) this.tell();
    }

    tell() {
      const words = this.values().map(({ one, step, value }) =>
        `${one.name} ${this.text(value)}${step === this.step ? "" : ` at ${stepText(step)}`}`);
      this.told.textContent = `${this.data.axis || "step"} ${stepText(this.step)}: ` +
        (words.join(", ") || "no series is shown");
    }

    // Steps of the series that are shown; the cursor stands on one of them.
    stops() {
      const shown = this.shown;
      if (shown.length === this.series.length) return this.steps;
      return [...new Set(shown.flatMap((one) => one.x))].sort((a, b) => a - b);
    }

    snapped(at) {
      const stops = this.stops();
      return stops.length ? stops[nearest(stops, this.stepAt(bounded(at, 0, this.inner.width)))]
        : null;
    }

    zoom(view) {
      if (view) {
        const [begin, end] = this.whole;
        // Not nearer than two steps, and never past the ends.
        const length = bounded(view[1] - view[0], Math.min(2, end - begin), end - begin);
        const middle = (view[0] + view[1]) / 2;
        const first = bounded(middle - length / 2, begin, end - length);
        view = length >= end - begin ? null : [first, first + length];
      }
      this.view = view;
      this.resetButton.hidden = !view;
      this.figure.classList.toggle("zoomed", Boolean(view));
      this.draw();
      const [first, last] = view || this.whole;
      this.told.textContent = `${this.data.axis || "step"} ${stepText(Math.ceil(first))} to ` +
        stepText(Math.floor(last));
    }

    // By a factor around a step, which stays where it is.
    scale(factor, around) {
      const [first, last] = this.view || this.whole;
      this.zoom([around - (around - first) * factor, around + (last - around) * factor]);
    }

    listen() {
      const at = (event) => event.clientX - this.plot.getBoundingClientRect().left - LEFT;
      this.plot.addEventListener("pointerdown", (event) => {
        if (event.button !== 0 || event.pointerType === "touch" || !this.inner) return;
        this.drag = { from: bounded(at(event), 0, this.inner.width), to: null };
        this.plot.setPointerCapture(event.pointerId);
      });
      this.plot.addEventListener("pointermove", (event) => {
        if (!this.inner) return;
        this.point(this.snapped(at(event)), false);
        if (this.drag) this.drawDrag(bounded(at(event), 0, this.inner.width));
      });
      this.plot.addEventListener("pointerup", () => this.endDrag());
      this.plot.addEventListener("pointercancel", () => { this.drag = null; this.drawCursor(); });
      this.plot.addEventListener("pointerleave", () => {
        if (!this.drag) this.point(null, false);
      });
      this.plot.addEventListener("dblclick", () => this.zoom(null));
      this.plot.addEventListener("wheel", (event) => {
        if (!event.ctrlKey || !this.inner) return;
        event.preventDefault();
        this.scale(event.deltaY < 0 ? 0.8 : 1.25,
          this.stepAt(bounded(at(event), 0, this.inner.width)));
      }, { passive: false });
      this.plot.addEventListener("keydown", (event) => this.onKey(event));
      this.plot.addEventListener("blur", () => this.point(null, false));
      this.figure.addEventListener("chart-data", (event) => this.take(event.detail));
    }

    drawDrag(to) {
      this.drag.to = to;
      const { from } = this.drag;
      svg("rect", { class: "drag", x: Math.min(from, to), y: 0, width: Math.abs(to - from),
        height: this.inner.height }, this.cursor);
    }

    endDrag() {
      const drag = this.drag;
      this.drag = null;
      if (!drag || drag.to === null || Math.abs(drag.to - drag.from) < LEAST_DRAG) return;
      this.zoom([drag.from, drag.to].sort((a, b) => a - b).map((place) => this.stepAt(place)));
    }

    onKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey || !this.inner) return;
      const stops = this.stops();
      if (!stops.length) return;
      const [first, last] = this.view || this.whole;
      const here = this.step ?? null;
      const far = event.shiftKey ? Math.max(2, Math.round(stops.length / 20)) : 1;
      const moves = {
        ArrowRight: (place) => place + far, ArrowLeft: (place) => place - far,
        Home: () => 0, End: () => stops.length - 1,
      };
      if (event.key in moves) {
        const isNew = here === null || here < first || here > last;
        // From nowhere the first look is at the last step that is seen.
        const place = isNew && event.key.startsWith("Arrow") ? nearest(stops, last)
          : moves[event.key](nearest(stops, here ?? last));
        this.reach(stops[bounded(place, 0, stops.length - 1)]);
      } else if (event.key === "+" || event.key === "=") {
        this.scale(0.6, here ?? (first + last) / 2);
      } else if (event.key === "-" || event.key === "_") {
        this.scale(1 / 0.6, here ?? (first + last) / 2);
      } else if (event.key === "Escape") {
        if (this.view) this.zoom(null);
        else this.point(null, false);
      } else return;
      event.preventDefault();
    }

    // The view follows a cursor that leaves it.
    reach(step) {
      if (this.view && (step < this.view[0] || step > this.view[1])) {
        const half = (this.view[1] - this.view[0]) / 2;
        this.zoom([step - half, step + half]);
      }
      this.point(step, true);
    }
  }

  for (const block of document.querySelectorAll("figure > script.chart-data"))
    charts.push(new Chart(block.parentElement, JSON.parse(block.textContent)));
})();
