// Where text may stand on the board: no two texts on each other, none on a process, none outside.

// Air around a text.
const AIR = 2;

const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;

export class Room {
  constructor(width, height, circles) {
    Object.assign(this, { width, height, circles, taken: [] });
  }

  // A box of this size whose middle is as near to x as the board allows.
  centred(x, top, width, height) {
    const left = Math.min(Math.max(x - width / 2, AIR), Math.max(this.width - width - AIR, AIR));
    return { left, top, right: left + width, bottom: top + height };
  }

  onCircle(box) {
    return this.circles.some(({ x, y, radius }) => {
      const [nearX, nearY] = [Math.min(Math.max(x, box.left), box.right), Math.min(Math.max(y, box.top), box.bottom)];
      return Math.hypot(nearX - x, nearY - y) < radius + AIR;
    });
  }

  free(box) {
    const inside = box.left >= 0 && box.top >= 0 && box.right <= this.width && box.bottom <= this.height;
    return inside && this.taken.every((other) => apart(box, other)) && !this.onCircle(box);
  }

  // The first of the boxes that is free; it is taken then.
  take(boxes) {
    const box = boxes.find((one) => this.free(one));
    if (box) this.taken.push(box);
    return box;
  }
}
