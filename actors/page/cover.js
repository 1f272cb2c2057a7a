// Which edges of the map lie behind something: the map's centre is in the middle of the rest.

const WIDE = 0.5; // of the map's width: what is as wide covers the upper or the lower edge,
const FLAT = 3; // and so does what is so many times as wide as high

// Calls `told` with {above, below, aside}, CSS pixels, after every change.
export function watchCover(ground, boxes, told) {
  const look = () => {
    const { clientWidth: width, clientHeight: height } = ground;
    const cover = { above: 0, below: 0, aside: 0 };
    for (const { offsetTop, offsetLeft, offsetWidth, offsetHeight } of boxes) {
      if (!offsetWidth) continue; // hidden
      if (offsetWidth > WIDE * width || offsetWidth > FLAT * offsetHeight) {
        if (offsetTop + offsetHeight / 2 < height / 2) cover.above = Math.max(cover.above, offsetTop + offsetHeight);
        else cover.below = Math.max(cover.below, height - offsetTop);
      } else if (offsetLeft > width / 2) cover.aside = Math.max(cover.aside, width - offsetLeft);
    }
    told(cover);
  };
  const observer = new ResizeObserver(look);
  [ground, ...boxes].forEach((each) => observer.observe(each));
}
