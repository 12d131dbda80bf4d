// Lists that forget: nothing on this page grows without end. Pure.

/** Tells when something happens more than `most` times within `withinMs`. */
export class TooOften {
  private times: number[] = [];
  constructor(readonly most: number, readonly withinMs: number) {}
  again(now: number): boolean {
    this.times = [...this.times.filter((at) => now - at < this.withinMs), now].slice(-this.most - 1);
    return this.times.length > this.most;
  }
}

/** Keeps the newest `most` of what is put in, in order. */
export class Ring<T> {
  readonly items: T[] = [];
  constructor(readonly most: number) {}
  push(item: T): void {
    this.items.push(item);
    // A third at a time, so that pushing stays cheap.
    if (this.items.length > this.most * 1.33) this.items.splice(0, this.items.length - this.most);
  }
  last(): T | undefined {
    return this.items[this.items.length - 1];
  }
  clear(): void {
    this.items.length = 0;
  }
}
