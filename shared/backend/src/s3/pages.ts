/** Pages of one listing; a bucket of a billion objects has a million. */
const MAX_PAGES = 2_000_000;

/**
 * Reads a listing page by page, each with what the one before named as the next. A store that names a page again, at
 * whatever distance, or never ends is not believed: `fault` makes the error that is thrown then.
 */
export async function* pagesOf<P, K>(
  read: (from: K | undefined) => Promise<P>,
  next: (page: P) => K | undefined,
  fault: (words: string) => Error,
): AsyncGenerator<P, void, void> {
  let from: K | undefined;
  // Brent's cycle detection: what the page at the last power of two was named.
  let mark: string | undefined;
  for (let count = 1, power = 1; count <= MAX_PAGES; count++) {
    const page = await read(from);
    yield page;
    from = next(page);
    if (from === undefined) return;
    const name = JSON.stringify(from);
    if (name === mark) throw fault('lists the same page again and again');
    if (count === power) {
      mark = name;
      power *= 2;
    }
  }
  throw fault(`lists more than ${MAX_PAGES} pages`);
}
