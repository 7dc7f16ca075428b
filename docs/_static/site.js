/* Mark the edges at which a wide element is cut, so that the style sheet can show that it scrolls. */
"use strict";
for (const box of document.querySelectorAll(".picture, .table-wrapper, .highlight pre")) {
  const mark = () => {
    box.classList.toggle("more-left", box.scrollLeft > 12);
    box.classList.toggle("more-right", box.scrollWidth - box.clientWidth - box.scrollLeft > 12);
  };
  box.addEventListener("scroll", mark, { passive: true });
  new ResizeObserver(mark).observe(box);
}
