import { Pool } from 'undici';

/** One range of a blob that was asked for. */
export interface RangeRead {
  readonly offset: number;
  readonly ms: number;
}

/**
 * Reads `lengthBytes` from each offset of a URL, one after the other on one connection. @throws {Error} unless every answer is 206
 * and whole
 */
export async function readRanges(
  url: string,
  offsets: readonly number[],
  lengthBytes: number,
): Promise<RangeRead[]> {
  const { origin, pathname } = new URL(url);
  const pool = new Pool(origin, { connections: 1, bodyTimeout: 120_000, headersTimeout: 120_000 });
  try {
    const reads: RangeRead[] = [];
    for (const offset of offsets) {
      const fromMs = performance.now();
      const range = `bytes=${offset}-${offset + lengthBytes - 1}`;
      const answer = await pool.request({ method: 'GET', path: pathname, headers: { range } });
      const bytes = (await answer.body.arrayBuffer()).byteLength;
      if (answer.statusCode !== 206 || bytes !== lengthBytes)
        throw new Error(`${url}: ${range}: status ${answer.statusCode}, ${bytes} bytes`);
      reads.push({ offset, ms: performance.now() - fromMs });
    }
    return reads;
  } finally {
    await pool.close();
  }
}
