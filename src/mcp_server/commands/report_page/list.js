// A list that holds only the rows in sight, so that ten thousand scroll as ten do.

class LongList {
  /** `render(index)` returns a row's element; `height(index)` its height in pixels. */
  constructor(box, height, render) {
    this.box = box;
    this.height = height;
    this.render = render;
    this.rows = new Map();
    this.tops = [0];
    this.space = make("div", { class: "space", role: "presentation" });
    box.append(this.space);
    box.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(box);
  }

  /** Show `count` rows, all anew. */
  reset(count) {
    this.tops = new Float64Array(count + 1);
    for (let i = 0; i < count; i++) this.tops[i + 1] = this.tops[i] + this.height(i);
    this.space.style.height = `${this.tops[count]}px`;
    this.refresh();
  }

  /** Render the rows in sight anew. */
  refresh() {
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    this.draw();
  }

  draw() {
    const count = this.tops.length - 1;
    const first = Math.max(0, this.at(this.box.scrollTop) - 4);
    const last = Math.min(count - 1, this.at(this.box.scrollTop + this.box.clientHeight) + 4);
    for (const [index, row] of this.rows) {
      if (index >= first && index <= last) continue;
      row.remove();
      this.rows.delete(index);
    }
    for (let index = first; index <= last; index++) {
      if (this.rows.has(index)) continue;
      const row = this.render(index);
      row.classList.add("row");
      row.style.transform = `translateY(${this.tops[index]}px)`;
      row.style.height = `${this.tops[index + 1] - this.tops[index]}px`;
      this.rows.set(index, row);
      const next = this.rows.get(index + 1);
      this.space.insertBefore(row, next ?? null);
    }
  }

  /** The row at a height, by bisection. */
  at(height) {
    let low = 0;
    let high = this.tops.length - 2;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.tops[middle] <= height) low = middle;
      else high = middle - 1;
    }
    return Math.max(0, low);
  }

  /** Scroll as little as it takes to have a row in sight. */
  reveal(index) {
    const above = this.tops[index] - 40;
    const below = this.tops[index + 1] - this.box.clientHeight + 8;
    if (this.box.scrollTop > above) this.box.scrollTop = above;
    else if (this.box.scrollTop < below) this.box.scrollTop = below;
    this.draw();
  }
}
