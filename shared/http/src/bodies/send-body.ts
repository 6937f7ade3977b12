import { readElsewhere } from '@sepia/base/failure';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { CheckedBody, type CheckedChunk, type CheckedRange } from './checked-body.ts';
import {
  BUFFER_BYTES,
  bufferFor,
  FIRST_PACE,
  mayBorrow,
  mostAhead,
  type Pace,
  paceAfter,
  windowAt,
} from './core/body-windows.ts';
import { Deadline } from './deadline.ts';
import { readBuffers } from './read-buffers.ts';
import type { BlobReader, ReadableBlob } from './readable-blob.ts';

/** A range of the blob, and the text before it (of a multipart answer). */
export interface BodyPart {
  readonly range: CheckedRange;
  readonly head: string;
}

/** What a body consists of. */
export interface BodyPlan {
  readonly parts: readonly BodyPart[];
  readonly tail: string;
}

/** Where a body goes. */
export interface BodySink {
  /** Called once, when the first bytes are checked; nothing was sent before. */
  begin(): void;
  /** Resolves when the socket took the bytes: their buffer is then used again. */
  write(bytes: Uint8Array): Promise<void>;
}

interface BodyLimits {
  /** How long the first bytes may take, in ms. */
  readonly firstPieceMs: number;
  /** How long each further read may take, in ms; so many times as long where the blob gives up by itself: {@link SELF_ENDING}. */
  readonly stallMs: number;
}

/** On a slow line one piece may be late while others come. More than the patience of a blob with itself. */
const SELF_ENDING = 5;

/**
 * Sends a body window by window; to a client that is quick the next ones are read meanwhile. `gone` is aborted when
 * the client is. @throws before {@link BodySink.begin} and after it; after it the body must be cut
 */
export async function sendBody(
  blob: ReadableBlob,
  plan: BodyPlan,
  sink: BodySink,
  limits: BodyLimits,
  gone: AbortSignal,
): Promise<void> {
  const deadline = new Deadline(gone);
  const sender = new Sender(blob, plan, sink, deadline);
  try {
    await sender.run(limits);
  } finally {
    sender.end();
    deadline.end();
  }
}

/** A window that is being read. */
interface Ahead {
  readonly at: number;
  /** Where the next one begins, if as many bytes come as were asked for. */
  readonly end: number;
  readonly chunk: Promise<CheckedChunk>;
}

class Sender {
  readonly #blob: ReadableBlob;
  readonly #plan: BodyPlan;
  readonly #sink: BodySink;
  readonly #deadline: Deadline;
  readonly #body: CheckedBody;
  #pace: Pace = FIRST_PACE;
  #begun = false;
  /** Windows that are read while the one before them is sent, in their order. */
  #ahead: readonly Ahead[] = [];

  constructor(blob: ReadableBlob, plan: BodyPlan, sink: BodySink, deadline: Deadline) {
    this.#blob = blob;
    this.#plan = plan;
    this.#sink = sink;
    this.#deadline = deadline;
    const [only, ...more] = plan.parts;
    const isWhole = more.length === 0 && only?.range.start === 0 && only.range.end === blob.sizeBytes - 1;
    this.#body = new CheckedBody(blob, isWhole, deadline.signal);
  }

  /** What was read ahead is not needed any more. */
  end(): void {
    for (const { chunk } of this.#ahead) readElsewhere(chunk.then((one) => one.free()));
    this.#ahead = [];
  }

  async run(limits: BodyLimits): Promise<void> {
    const { parts, tail } = this.#plan;
    if (this.#blob.sizeBytes === 0) {
      const reader = this.#blob.openReader(0, 0);
      try {
        await this.#deadline.run(limits.firstPieceMs, this.#blob.whenFinal(this.#deadline.signal));
      } finally {
        reader.close();
      }
      this.#sink.begin();
      return;
    }
    for (const part of parts) {
      const { start, end } = part.range;
      const reader = this.#blob.openReader(Math.floor(start / PIECE_BYTES), end, start);
      try {
        await this.#sendPart(part, limits, reader);
      } finally {
        reader.close();
      }
    }
    if (tail !== '') await this.#sink.write(Buffer.from(tail));
  }

  async #sendPart({ range, head }: BodyPart, limits: BodyLimits, reader: BlobReader): Promise<void> {
    let piece = -1;
    const stallMs = limits.stallMs * (this.#blob.givesUp ? SELF_ENDING : 1);
    for (let at = range.start; at <= range.end; ) {
      if (Math.floor(at / PIECE_BYTES) !== piece) {
        piece = Math.floor(at / PIECE_BYTES);
        reader.move(piece);
      }
      const chunk = await this.#next(range, at, this.#begun ? stallMs : limits.firstPieceMs);
      try {
        if (!this.#begun) this.#sink.begin();
        this.#begun = true;
        if (at === range.start && head !== '') await this.#sink.write(Buffer.from(head));
        const startedMs = performance.now();
        await this.#sink.write(chunk.bytes);
        this.#pace = paceAfter(this.#pace, performance.now() - startedMs, chunk.bytes.length);
        at += chunk.bytes.length;
      } finally {
        chunk.free();
      }
    }
  }

  async #next(range: CheckedRange, at: number, waitMs: number): Promise<CheckedChunk> {
    const [next, ...later] = this.#ahead;
    // Fewer or more bytes came than were asked for: what was read ahead does not follow on them.
    if (next !== undefined && next.at !== at) this.end();
    else this.#ahead = later;
    const coming = next?.at === at ? next.chunk : this.#take(range, at);
    const chunk = await this.#deadline.run(waitMs, coming, (late) => late.free());
    this.#readAhead(range, at + chunk.bytes.length);
    return chunk;
  }

  #take(range: CheckedRange, at: number): Promise<CheckedChunk> {
    const pace = this.#pace;
    return this.#body.take(range, at, () => bufferFor(pace, readBuffers.lent), mayBorrow(pace));
  }

  /** Begins to read what follows, unless it must wait for the whole digest. */
  #readAhead(range: CheckedRange, from: number): void {
    for (let at = this.#ahead.at(-1)?.end ?? from; at <= range.end; ) {
      if (this.#ahead.length >= mostAhead(this.#pace, readBuffers.lent)) return;
      const window = windowAt(range, at, BUFFER_BYTES.large);
      if (this.#body.isWithheld(range, window)) return;
      if (this.#ahead.length > 0 && !this.#body.isInAnyOrder) return;
      const chunk = this.#take(range, at);
      readElsewhere(chunk);
      this.#ahead = [...this.#ahead, { at, end: window.end, chunk }];
      at = window.end;
    }
  }
}
