// The live page of a run: asks what is new and puts it into the page, all of it as text.
(() => {
  "use strict";
  const EVERY = 1000, EVERY_AT_REST = 2000; // milliseconds
  const MOST_POINTS = 4000; // of a curve; then all are asked for anew, thinned
  const find = (id) => document.getElementById(id);
  const curves = new Map(); // name: {x, y}
  const specs = new Map(); // id of a chart: what its block says
  let cursor = null, version = null, moment = null, heard = 0, numAlarms = 0, lastKind = null;

  function make(name, parent, text, kind) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    if (parent) parent.append(made);
    return made;
  }
  function write(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }
  // What is built of values is built again only where they changed: a reader may be in it.
  const built = new WeakMap();
  function build(element, values, fill) {
    const key = JSON.stringify(values);
    if (built.get(element) === key) return;
    built.set(element, key);
    element.replaceChildren();
    fill(element);
  }
  const plural = (number, noun) =>
    `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

  // As quantities.duration_text says durations.
  function durationText(seconds) {
    if (seconds < 59.95) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
    const whole = Math.round(seconds);
    const minutes = Math.floor(whole / 60), pad = (value) => String(value).padStart(2, "0");
    if (minutes < 60) return `${minutes} min ${pad(whole % 60)} s`;
    return `${Math.floor(minutes / 60)} h ${pad(minutes % 60)} min`;
  }

  function takePoints(news) {
    if (news.is_whole) curves.clear();
    const changed = new Set();
    for (const [name, points] of Object.entries(news.points)) {
      if (!curves.has(name)) curves.set(name, { x: [], y: [] });
      const curve = curves.get(name);
      for (const [step, value] of points) {
        curve.x.push(step);
        curve.y.push(value);
      }
      changed.add(name);
    }
    const isFull = [...curves.values()].some((curve) => curve.x.length > MOST_POINTS);
    cursor = isFull ? null : `${news.generation}.${news.line}`;
    if (isFull) version = null;
    return news.is_whole ? null : changed;
  }

  // The running median of a long curve, as the report draws it.
  function trendOf({ x, y }) {
    if (x.length < 120) return null;
    const reach = Math.floor(x.length / 60), places = Math.min(x.length, 400);
    const trend = { x: [], y: [] };
    for (let number = 0; number < places; number++) {
      const place = Math.round((number * (x.length - 1)) / (places - 1));
      const near = y.slice(Math.max(0, place - reach), place + reach + 1).sort((a, b) => a - b);
      const half = near.length >> 1;
      trend.x.push(x[place]);
      trend.y.push(near.length % 2 ? near[half] : (near[half - 1] + near[half]) / 2);
    }
    return trend;
  }

  const one = (name, key, curve) => (curve ? [{ name, key, x: curve.x, y: curve.y }] : []);
  const named = (prefix) => [...curves.keys()].filter((name) => name.startsWith(prefix));
  function byTower(prefix, plain) {
    const towers = named(`${prefix}/`);
    if (!towers.length) return one(plain, "single", curves.get(prefix));
    return towers.flatMap((name) => {
      const tower = name.slice(prefix.length + 1);
      return one(tower, tower, curves.get(name));
    });
  }
  const CHARTS = {
    "chart-loss": ["loss", "eval_loss"],
    "chart-measures": ["eval_"],
    "chart-gradients": ["grad_norm"],
    "chart-changes": ["weight_change"],
    "chart-rates": ["learning_rate"],
    "chart-tokens": ["tokens_per_second"],
    "chart-memory": ["memory_mib"],
  };
  const SERIES = {
    "chart-loss": () => [
      ...one("train", "loss", curves.get("loss")),
      ...(curves.has("loss") ? one("running median", "trend", trendOf(curves.get("loss"))) : []),
      ...one("held out", "held", curves.get("eval_loss")),
    ],
    "chart-measures": () => named("eval_").filter((name) => name !== "eval_loss").flatMap(
      (name, place) => one(moment.titles[name] || name, `line-${(place % 6) + 1}`,
        curves.get(name))),
    "chart-gradients": () => byTower("grad_norm", "all towers"),
    "chart-changes": () => byTower("weight_change", "all towers"),
    "chart-rates": () => byTower("learning_rate", "all towers"),
    "chart-tokens": () => one("tokens a second", "single", curves.get("tokens_per_second")),
    "chart-memory": () => one("memory", "single", curves.get("memory_mib")),
  };

  function drawCharts(changed, borders) {
    for (const [id, prefixes] of Object.entries(CHARTS)) {
      const isNew = changed === null ||
        [...changed].some((name) => prefixes.some((prefix) => name.startsWith(prefix)));
      if (!isNew) continue;
      const figure = find(id), series = SERIES[id]();
      figure.hidden = !series.length;
      figure.dispatchEvent(new CustomEvent("chart-data",
        { detail: { ...specs.get(id), borders, series } }));
    }
  }

  function writeState({ state, progress }) {
    find("state").className = `verdict ${state.kind}`;
    write(find("title"), state.title);
    write(find("detail"), state.detail);
    find("failing").hidden = !state.failing.length;
    build(find("failing"), state.failing, (list) => {
      for (const check of state.failing) {
        const item = make("li", list);
        make("span", item, check.title, "strong");
        item.append(": ");
        make("span", item, check.measured, "bad");
        if (check.advice) make("p", item, check.advice);
      }
    });
    find("progress").hidden = progress.share === null;
    if (progress.share !== null) find("bar").value = progress.share;
    const share = progress.share === null ? "" : `${Math.floor(progress.share * 100)} % `;
    document.title = `${numAlarms ? "⚠ " : ""}${state.kind === "going" ? share : ""}` +
      `${moment.name}: ${state.title}`;
    if (lastKind !== null && lastKind !== state.kind)
      write(find("announced"), `${state.title}. ${state.detail}`);
    lastKind = state.kind;
  }

  // What changes while nothing comes: time left, and for how long nothing came.
  function writeTimes() {
    if (!moment || moment.error) return;
    const passed = (performance.now() - heard) / 1000;
    const { progress, state } = moment;
    const age = moment.age_seconds === null ? null : moment.age_seconds + passed;
    const words = [];
    if (progress.num_steps)
      words.push(`${progress.step.toLocaleString("en")} of ${plural(progress.num_steps, "step")}`);
    if (progress.seconds_left !== null)
      words.push(`${durationText(Math.max(progress.seconds_left - passed, 0))} left`);
    if (age !== null && state.kind === "going")
      words.push(`last written ${durationText(Math.floor(age)).replace(".0", "")} ago`);
    write(find("told"), words.join(", "));
    const isQuiet = age !== null && moment.quiet_after_seconds !== null &&
      age > moment.quiet_after_seconds;
    find("quiet").hidden = !isQuiet;
    if (isQuiet)
      write(find("quiet"), `Nothing was written for ${durationText(age)}. ${state.quiet}`);
  }

  function writeAlarms(alarms) {
    const box = find("alarms"), list = box.querySelector("ol");
    box.hidden = !alarms.length;
    if (alarms.length < numAlarms) {
      list.replaceChildren();
      numAlarms = 0;
    }
    for (const alarm of alarms.slice(numAlarms)) {
      const item = make("li", list);
      make("span", item, `Step ${alarm.step.toLocaleString("en")}: ${alarm.seen}.`, "bad strong");
      for (const [name, text] of [["Likely cause.", alarm.cause], ["Remedy.", alarm.remedy]]) {
        const said = make("p", item);
        make("span", said, name, "soft");
        said.append(` ${text}`);
      }
      if (lastKind !== null) write(find("announced"), `Alarm at step ${alarm.step}: ${alarm.seen}`);
    }
    numAlarms = alarms.length;
    write(find("alarm-title"), `${plural(alarms.length, "alarm")} while it trained`);
  }

  function pairs(list, values) {
    build(list, values, () => {
      for (const [name, value] of values) {
        const row = list.id === "figures" ? make("div", list) : list;
        make("dt", row, name);
        make("dd", row, value);
      }
    });
  }
  // Figures change every second: their texts do, and the list stays.
  function writeFigures(values) {
    const list = find("figures"), shown = [...list.querySelectorAll("dt")];
    if (shown.map((dt) => dt.textContent).join("\n") !== values.map(([name]) => name).join("\n"))
      pairs(list, values);
    else values.forEach(([, value], place) => write(shown[place].nextElementSibling, value));
    find("no-course").hidden = values.length > 0;
  }

  const decimals = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
  function writeMeasures(measures) {
    find("measures-section").hidden = !measures.length;
    const isFinal = measures.some((measure) => "low" in measure);
    const hasBefore = measures.some((measure) => typeof measure.before === "number");
    build(find("measures-table"), measures, (table) => {
      const head = make("tr", make("thead", table)), body = make("tbody", table);
      const names = ["measure", ...(hasBefore ? ["before"] : []), isFinal ? "value" : "last value",
        isFinal ? "95 %" : "at step"];
      names.forEach((name, place) => {
        make("th", head, name, place ? "num" : "").scope = "col";
      });
      for (const measure of measures) {
        const row = make("tr", body);
        make("th", row, measure.title).scope = "row";
        if (hasBefore) make("td", row, decimals(measure.before), "num");
        make("td", row, decimals(measure.value), "num");
        const span = typeof measure.low === "number"
          ? `${decimals(measure.low)} to ${decimals(measure.high)}` : "";
        make("td", row, isFinal ? span : measure.step.toLocaleString("en"), "num");
      }
    });
  }

  const VERDICTS = [[true, "✓ holds", "good strong"], [false, "✗ fails", "bad strong"],
    [null, "information", "soft"]];
  function writeCertificate(certificate) {
    find("certificate-section").hidden = !certificate;
    if (!certificate) return;
    write(find("made"), `Made ${certificate.created}.`);
    build(find("checks"), certificate.checks, (body) => {
      for (const check of certificate.checks) {
        const row = make("tr", body);
        const head = make("th", row, check.title);
        head.scope = "row";
        make("code", make("span", head, undefined, "note"), check.id);
        const seen = make("td", row, check.measured, "seen");
        if (check.detail) make("span", seen, check.detail, "note");
        make("td", row, check.tolerance, check.tolerance ? "limit" : "limit none");
        const [, word, kind] = VERDICTS.find(([holds]) => holds === check.holds);
        make("span", make("td", row, undefined, "said nowrap"), word, kind);
      }
    });
  }

  function take(answer) {
    moment = answer;
    heard = performance.now();
    find("error").hidden = !answer.error;
    if (answer.error) {
      write(find("error"), answer.error);
      return;
    }
    const changed = takePoints(answer.curves);
    drawCharts(changed, answer.borders);
    writeAlarms(answer.alarms);
    writeState(answer);
    writeFigures(answer.figures);
    writeMeasures(answer.measures);
    writeCertificate(answer.certificate);
    find("faults").hidden = !answer.faults.length;
    build(find("faults"), answer.faults, (box) => {
      for (const fault of answer.faults) make("p", box, fault);
    });
    find("run-section").hidden = !answer.facts.length;
    pairs(find("facts"), answer.facts);
  }

  // What is new; null where nothing is, and an error where nobody answers.
  async function news() {
    const answer = await fetch(cursor ? `state?since=${cursor}` : "state",
      { headers: version ? { "If-None-Match": version } : {}, cache: "no-store" });
    if (answer.status === 304) return null;
    if (!answer.ok) throw new Error(String(answer.status));
    return { version: answer.headers.get("ETag"), moment: await answer.json() };
  }

  async function ask() {
    const [found, isLost] = await news().then((one) => [one, false], () => [null, true]);
    find("lost").hidden = !isLost;
    // Another process may answer next, of which nothing is known.
    if (isLost) version = null;
    if (found) {
      version = found.version;
      take(found.moment);
    }
    writeTimes();
    const isGoing = !isLost && moment && moment.state && moment.state.kind === "going";
    setTimeout(ask, isGoing ? EVERY : EVERY_AT_REST);
  }

  for (const id of Object.keys(CHARTS))
    specs.set(id, JSON.parse(find(id).querySelector("script.chart-data").textContent));
  ask();
})();
