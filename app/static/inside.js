// A word under the pointer or the focus shows its map over the picture; a click keeps it there.
(() => {
  const show = (look, word) => {
    const shade = look.querySelector(".ls-shade");
    const step = Number(look.querySelector(".ls-of-step input").value);
    const map = word && JSON.parse(word.dataset.maps)[step];
    shade.hidden = !map;
    if (map) shade.src = map;
    shade.dataset.word = map ? word.textContent : "";
  };
  const kept = (look) => look.querySelector(".ls-word:focus") ?? look.querySelector('.ls-word[aria-pressed="true"]');
  const over = (event) => {
    const word = event.target.closest?.(".ls-word");
    if (word) show(word.closest(".ls-look"), word);
  };
  const out = (event) => {
    const word = event.target.closest?.(".ls-word");
    if (word) show(word.closest(".ls-look"), kept(word.closest(".ls-look")));
  };
  document.addEventListener("pointerover", over);
  document.addEventListener("focusin", over);
  document.addEventListener("pointerout", out);
  document.addEventListener("focusout", out);
  document.addEventListener("click", (event) => {
    const word = event.target.closest?.(".ls-word");
    if (!word) return;
    const look = word.closest(".ls-look");
    const keep = word.getAttribute("aria-pressed") !== "true";
    for (const other of look.querySelectorAll(".ls-word")) other.setAttribute("aria-pressed", "false");
    word.setAttribute("aria-pressed", String(keep));
    show(look, word);
  });
  document.addEventListener("input", (event) => {
    const range = event.target.closest?.(".ls-of-step input");
    if (!range) return;
    const { all, first, step } = range.dataset;
    const words = range.value === "0" ? all : step.replace("{step}", Number(first) + Number(range.value) - 1);
    range.closest("label").querySelector("output").textContent = words;
    const look = range.closest(".ls-look");
    show(look, kept(look) ?? look.querySelector(".ls-word"));
  });
})();
