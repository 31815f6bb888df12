// The filter shows the cards whose text contains the typed text.
"use strict";
(() => {
  const box = document.getElementById("filter");
  const count = document.getElementById("found");
  const cards = Array.from(document.querySelectorAll("details.card"));
  const normalised = (text) => text.toLowerCase().replace(/\s+/g, " ").trim();
  let texts = null;
  const filter = () => {
    texts ??= cards.map((card) => normalised(card.textContent));
    const wanted = normalised(box.value);
    let shown = 0;
    cards.forEach((card, i) => {
      const matches = texts[i].includes(wanted);
      card.hidden = !matches;
      shown += matches;
    });
    count.textContent = wanted ? `${shown} of ${cards.length} queries` : "";
  };
  let timer = 0;
  box.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(filter, 100);
  });
  box.form.addEventListener("submit", (event) => event.preventDefault());
  box.form.hidden = false;
  if (box.value) filter();
})();
