// Pictures in the whole window, and the sheet of keys. Arrow keys go on, Escape closes.
(() => {
  const words = (name) => document.querySelector("#ls-words")?.content.querySelector(`[data-word="${name}"]`);
  const drawn = () => [...document.querySelectorAll('[data-state="done"] .ls-cell img')];
  const kept = () => [...document.querySelectorAll("#strip .ls-cell img")];
  const selected = () => document.querySelector('[data-state="done"] .ls-cell[aria-pressed="true"] img');
  const hidden = (element) => !element || element.offsetParent === null;

  // A dialog that the browser closes with Escape and gives the focus back from.
  const dialog = (name) => {
    const made = document.createElement("dialog");
    made.className = `ls-dialog ls-${name}`;
    made.addEventListener("click", (event) => event.target === made && made.close());
    made.addEventListener("close", () => made.remove());
    document.querySelector(".gradio-container").append(made); // where the colours of the theme hold
    return made;
  };

  const showPictures = (pictures, first) => {
    let at = first;
    const box = dialog("viewer");
    const image = document.createElement("img");
    const caption = document.createElement("p");
    const button = (name, act) => {
      const made = document.createElement("button");
      made.type = "button";
      made.className = "ls-chip";
      made.dataset.view = name;
      made.textContent = words(name).textContent;
      made.addEventListener("click", act);
      return made;
    };
    const show = (place) => {
      at = (place + pictures.length) % pictures.length;
      image.src = pictures[at].src;
      image.alt = pictures[at].alt;
      caption.textContent = `${pictures[at].alt} (${at + 1} / ${pictures.length})`;
    };
    const bar = document.createElement("div");
    bar.className = "ls-chips";
    if (pictures.length > 1) {
      bar.append(button("previous", () => show(at - 1)), button("next", () => show(at + 1)));
    }
    bar.append(button("close", () => box.close()));
    box.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") show(at - 1);
      else if (event.key === "ArrowRight") show(at + 1);
      else return;
      event.preventDefault();
    });
    box.append(image, caption, bar);
    show(at);
    box.showModal();
  };

  // What is on the stage; where that is one picture, all that are kept.
  const open = () => {
    const seen = drawn(), all = kept();
    const chosen = selected() ?? seen[0];
    if (!chosen) return;
    const pictures = seen.length > 1 ? seen : all;
    const place = pictures.findIndex((image) => image.src === chosen.src);
    showPictures(place < 0 ? [chosen] : pictures, Math.max(0, place));
  };

  const showKeys = () => {
    const box = dialog("keysheet");
    box.append(words("keys").cloneNode(true));
    box.showModal();
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest?.("input, textarea, select, [contenteditable], [role='listbox']")) return;
    if (event.key === "f" && !hidden(document.querySelector("#stage"))) open();
    else if (event.key === "?") showKeys();
    else return;
    event.preventDefault();
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("#enlarge, #enlarge button")) open();
    else if (event.target.closest?.("[data-keys]")) showKeys();
  });

  // Again and again: as soon as one drawing is there, the next is asked for, until the box is cleared.
  const again = () => document.querySelector("#forever input");
  let last;
  setInterval(() => {
    const done = document.querySelector('#stage [data-state="done"]');
    if (!done?.querySelector(".ls-foot")) return; // what was picked from the strip has no line below
    const drawn = done.querySelector("[data-id]").dataset.id;
    if (drawn !== last && again()?.checked) document.querySelector("#generate")?.click();
    last = drawn;
  }, 200);
  const enough = () => again()?.checked && again().click();
  document.addEventListener("click", (event) => event.target.closest?.("#stop") && enough(), true);
  document.addEventListener("keydown", (event) => event.key === "Escape" && enough());

  // How far the picture is, in the title of the tab.
  setInterval(() => {
    const bar = document.querySelector('[data-state="live"] [role="progressbar"]');
    const title = document.title.replace(/^\d+% · /, "");
    const now = bar ? `${bar.getAttribute("aria-valuenow")}% · ${title}` : title;
    if (document.title !== now) document.title = now;
  }, 500);
})();
