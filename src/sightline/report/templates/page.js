// What the whole page needs: light and dark by a button, everything open where it is printed, and
// tables that show the rows of one kind.
(() => {
  "use strict";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  for (const one of document.querySelectorAll("[data-scripted]")) one.hidden = false;

  const button = document.querySelector("button.theme");
  if (button) {
    const isDark = () => (root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
    const name = () => { button.textContent = isDark() ? "Light" : "Dark"; };
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      name();
    });
    dark.addEventListener("change", name);
    name();
  }

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of opened) one.open = false;
    opened = [];
  });

  for (const select of document.querySelectorAll("select[data-rows]")) {
    const rows = [...document.getElementById(select.dataset.rows).rows];
    select.addEventListener("change", () => {
      for (const row of rows) row.hidden = select.value !== "" && row.dataset.kind !== select.value;
    });
  }
})();
