/** FNV-1a, 2 × 32 bit. */
export class TraceHash {
  count = 0;
  #a = 0x811c9dc5;
  #b = 0x1000193;

  add(text: string): void {
    this.count += 1;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      this.#a = Math.imul(this.#a ^ code, 0x01000193) >>> 0;
      this.#b = Math.imul(this.#b ^ (code + i), 0x85ebca6b) >>> 0;
    }
  }

  get hex(): string {
    return this.#a.toString(16).padStart(8, '0') + this.#b.toString(16).padStart(8, '0');
  }
}
