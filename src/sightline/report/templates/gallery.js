// Galleries of samples: put in order by how well boxes fit, and counted. Which boxes are drawn, and
// whether only wrong ones are, the style decides by its boxes to tick.
(() => {
  "use strict";
  const ORDERS = {
    worst: (a, b) => a.dataset.score - b.dataset.score || a.dataset.place - b.dataset.place,
    best: (a, b) => b.dataset.score - a.dataset.score || a.dataset.place - b.dataset.place,
    file: (a, b) => a.dataset.place - b.dataset.place,
  };
  for (const gallery of document.querySelectorAll(".gallery")) {
    const order = gallery.querySelector("select.order");
    const wrong = gallery.querySelector("input.only-wrong");
    const count = gallery.querySelector(".shown-count");
    const samples = [...gallery.querySelectorAll("article.sample")];
    order.addEventListener("change", () => {
      gallery.append(...samples.sort(ORDERS[order.value]));
    });
    const tell = () => {
      const num = wrong.checked ? samples.filter((one) => "wrong" in one.dataset).length
        : samples.length;
      count.textContent = `${num} of ${samples.length} shown`;
    };
    wrong.addEventListener("change", tell);
    tell();
  }
})();
