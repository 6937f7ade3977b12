import type { IncomingMessage, ServerResponse } from 'node:http';

/** One thing that a registry may do wrong. Positions are in bytes of the body that is sent. */
export type Misbehaviour =
  | {
      readonly type: 'status';
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string;
    }
  /** Flips one bit of the byte at `at` of the whole content (default: its middle). */
  | { readonly type: 'lie'; readonly at?: number }
  /** Sends `afterBytes` of the body, then cuts the connection. */
  | { readonly type: 'cut'; readonly afterBytes: number }
  /** Sends `afterBytes` of the body, then nothing, with the connection open. */
  | { readonly type: 'stall'; readonly afterBytes: number }
  /** Sends `afterBytes` of the body, and goes on when `until` is over: what is done meanwhile is done in the middle of it. */
  | { readonly type: 'hold'; readonly afterBytes: number; readonly until: Promise<void> }
  /** Sends `afterBytes` of the body, then one byte after the other, each so much later. */
  | { readonly type: 'drip'; readonly afterBytes: number; readonly everyMs: number }
  /** Never answers at all. */
  | { readonly type: 'silent' }
  /** Cuts the connection before any answer. */
  | { readonly type: 'reset' }
  /** A link of this rate that all matching requests share. */
  | { readonly type: 'slow'; readonly bytesPerSec: number }
  /** Waits before it answers. */
  | { readonly type: 'delay'; readonly ms: number }
  /** No Content-Length. */
  | { readonly type: 'chunked' }
  | { readonly type: 'ignore-range' }
  /** Announces so many bytes more (or fewer) than there are. */
  | { readonly type: 'wrong-length'; readonly by: number }
  /** Redirects; without `to`, blobs go to the second host. */
  | { readonly type: 'redirect'; readonly to?: string; readonly status?: number }
  /** No `Docker-Content-Digest`. */
  | { readonly type: 'no-digest' }
  /** Another `Docker-Content-Digest` than the content's. */
  | { readonly type: 'wrong-digest'; readonly digest: string };

export type RequestKind = 'base' | 'manifest' | 'blob' | 'tags' | 'token' | 'store' | 'other';

export interface Rule {
  /** Which requests it hits; all when left out. */
  readonly kind?: RequestKind;
  readonly method?: string;
  /** A part of the path, or a pattern for it. */
  readonly path?: string | RegExp;
  /** Hits only the first n matching requests. */
  readonly times?: number;
  /** Leaves the first n matching requests alone. */
  readonly skip?: number;
  readonly does: Misbehaviour;
}

/** The rules in force; each counts its own hits. */
export class Rules {
  readonly #rules = new Set<{ rule: Rule; seen: number; link: Link | undefined }>();

  /** Adds a rule; returns the function that takes it away again. */
  add(rule: Rule): () => void {
    const link = rule.does.type === 'slow' ? new Link(rule.does.bytesPerSec) : undefined;
    const entry = { rule, seen: 0, link };
    this.#rules.add(entry);
    return () => {
      this.#rules.delete(entry);
    };
  }

  clear(): void {
    this.#rules.clear();
  }

  /** What is done to this request; counts it. */
  take(request: { kind: RequestKind; method: string; path: string }): Faults {
    const faults = new Faults();
    for (const entry of this.#rules) {
      const { rule } = entry;
      if (rule.kind !== undefined && rule.kind !== request.kind) continue;
      if (rule.method !== undefined && rule.method !== request.method) continue;
      if (typeof rule.path === 'string' && !request.path.includes(rule.path)) continue;
      if (rule.path instanceof RegExp && !rule.path.test(request.path)) continue;
      const count = entry.seen;
      entry.seen += 1;
      const first = rule.skip ?? 0;
      if (count < first || (rule.times !== undefined && count >= first + rule.times)) continue;
      faults.add(rule.does, entry.link);
    }
    return faults;
  }
}

/** All that is done to one request. Of a kind that was given twice the first wins. */
export class Faults {
  readonly #byType = new Map<string, Misbehaviour>();
  readonly links: Link[] = [];

  add(fault: Misbehaviour, link: Link | undefined): void {
    if (!this.#byType.has(fault.type)) this.#byType.set(fault.type, fault);
    if (link !== undefined) this.links.push(link);
  }

  get<T extends Misbehaviour['type']>(type: T): Extract<Misbehaviour, { type: T }> | undefined {
    return this.#byType.get(type) as Extract<Misbehaviour, { type: T }> | undefined;
  }
}

/** A shared link: each chunk takes its time on it, one after the other. */
class Link {
  readonly #bytesPerSec: number;
  #freeAtMs = 0;

  constructor(bytesPerSec: number) {
    this.#bytesPerSec = bytesPerSec;
  }

  /** Resolves when `bytes` have passed. */
  async pass(bytes: number): Promise<void> {
    const nowMs = performance.now();
    this.#freeAtMs = Math.max(this.#freeAtMs, nowMs) + (bytes / this.#bytesPerSec) * 1000;
    const waitMs = this.#freeAtMs - nowMs;
    if (waitMs >= 1) await new Promise<void>((resolve) => setTimeout(resolve, waitMs));
  }
}

const CHUNK_BYTES = 64 * 1024;
const SLOW_CHUNK_BYTES = 16 * 1024;

/** Sends `bytes` as the body, with what the faults do to it; `onSent` is told of each chunk that the socket took. */
export async function sendBody(
  req: IncomingMessage,
  res: ServerResponse,
  bytes: Buffer,
  faults: Faults,
  onSent: (bytes: number) => void,
): Promise<void> {
  const stopAt = Math.min(
    faults.get('cut')?.afterBytes ?? Infinity,
    faults.get('stall')?.afterBytes ?? Infinity,
    faults.get('drip')?.afterBytes ?? Infinity,
  );
  const chunkBytes = faults.links.length > 0 ? SLOW_CHUNK_BYTES : CHUNK_BYTES;
  res.flushHeaders();
  for (let at = 0; at < Math.min(bytes.length, stopAt); at += chunkBytes) {
    const chunk = bytes.subarray(at, Math.min(at + chunkBytes, bytes.length, stopAt));
    const hold = faults.get('hold');
    if (hold !== undefined && at >= hold.afterBytes) await hold.until;
    await Promise.all(faults.links.map((link) => link.pass(chunk.length)));
    if (!(await writeChunk(res, chunk))) return;
    onSent(chunk.length);
  }
  const drip = faults.get('drip');
  if (bytes.length >= stopAt && drip !== undefined)
    return await sendDrops(res, bytes.subarray(stopAt), drip.everyMs, onSent);
  if (bytes.length >= stopAt && faults.get('cut') !== undefined) req.socket.destroy();
  else if (bytes.length >= stopAt && faults.get('stall') !== undefined) return;
  else if (faults.get('wrong-length') !== undefined) req.socket.end();
  else res.end();
}

async function sendDrops(
  res: ServerResponse,
  bytes: Buffer,
  everyMs: number,
  onSent: (bytes: number) => void,
): Promise<void> {
  for (let at = 0; at < bytes.length; at++) {
    await new Promise<void>((resolve) => setTimeout(resolve, everyMs));
    if (!(await writeChunk(res, bytes.subarray(at, at + 1)))) return;
    onSent(1);
  }
  res.end();
}

/** False when the client is gone. */
async function writeChunk(res: ServerResponse, chunk: Buffer): Promise<boolean> {
  if (res.destroyed) return false;
  return await new Promise<boolean>((resolve) => {
    const onClose = (): void => resolve(false);
    res.once('close', onClose);
    res.write(chunk, (error) => {
      res.off('close', onClose);
      resolve(error == null);
    });
  });
}

/** The content with one bit flipped. */
export function flipBit(bytes: Buffer, at: number | undefined): Buffer {
  const copy = Buffer.from(bytes);
  if (copy.length > 0) copy[Math.min(at ?? copy.length >> 1, copy.length - 1)]! ^= 1;
  return copy;
}
