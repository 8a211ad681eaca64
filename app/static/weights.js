// Ctrl+Up and Ctrl+Down in a prompt: how much the selected words, or those at the cursor, weigh.
(() => {
  const STEP = 0.1;
  const OPENING = /\(([^()]*)$/; // the innermost bracket that is open before the selection
  const CLOSING = /^([^()]*?):\s*(-?\d*\.?\d+)\s*\)/; // and its weight behind it

  // [start, end] of the word at a place.
  const wordAt = (text, place) => {
    const before = text.slice(0, place).match(/[^\s,.()[\]{}|:]*$/)[0].length;
    const after = text.slice(place).match(/^[^\s,.()[\]{}|:]*/)[0].length;
    return [place - before, place + after];
  };

  // The text with another weight of what is selected, and what is selected then.
  const weigh = (text, start, end, change) => {
    if (start === end) [start, end] = wordAt(text, start);
    while (start < end && /\s/.test(text[start])) start += 1;
    while (end > start && /\s/.test(text[end - 1])) end -= 1;
    if (start === end) return null;
    const opening = text.slice(0, start).match(OPENING);
    const closing = text.slice(end).match(CLOSING);
    let inside = text.slice(start, end), first = start, last = end, weight = 1;
    if (opening && closing) {
      first = start - opening[0].length;
      last = end + closing[0].length;
      inside = opening[1] + inside + closing[1];
      weight = parseFloat(closing[2]);
    }
    weight = Math.round((weight + change) * 100) / 100;
    const shown = weight === 1 ? inside : `(${inside}:${weight})`;
    const begin = first + (weight === 1 ? 0 : 1);
    return { text: text.slice(0, first) + shown + text.slice(last), start: begin, end: begin + inside.length };
  };

  document.addEventListener(
    "keydown",
    (event) => {
      if (!(event.ctrlKey || event.metaKey) || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
      const box = event.target.closest?.("#prompt textarea, #negative textarea");
      if (!box) return;
      event.preventDefault();
      const change = event.key === "ArrowUp" ? STEP : -STEP;
      const weighed = weigh(box.value, box.selectionStart, box.selectionEnd, change);
      if (!weighed) return;
      box.value = weighed.text;
      box.setSelectionRange(weighed.start, weighed.end);
      box.dispatchEvent(new Event("input", { bubbles: true })); // so that Gradio hears of it
    },
    true,
  );
})();
