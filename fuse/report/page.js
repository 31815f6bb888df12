// The filter: cards whose text has what is typed.
"use strict";
(() => {
  const box = document.getElementById("filter");
  const said = document.getElementById("found");
  const cards = Array.from(document.querySelectorAll("details.card"));
  const plain = (text) => text.toLowerCase().replace(/\s+/g, " ").trim();
  let texts = null;
  const look = () => {
    texts ??= cards.map((card) => plain(card.textContent));
    const wanted = plain(box.value);
    let shown = 0;
    cards.forEach((card, i) => {
      const fits = texts[i].includes(wanted);
      card.hidden = !fits;
      shown += fits;
    });
    said.textContent = wanted ? `${shown} of ${cards.length} queries` : "";
  };
  let waiting = 0;
  box.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(look, 100);
  });
  box.form.addEventListener("submit", (event) => event.preventDefault());
  box.form.hidden = false;
  if (box.value) look();
})();
