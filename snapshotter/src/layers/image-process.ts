import { type ChildProcess, fork } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CodedError, type ErrorCode, type ErrorDetail } from '@sepia/base/errors';
import { indexEntries } from '@sepia/lazy/index/layer-index';
import { answerFrom, type ImageAnswers, type ImageQuestion, type MadeImage } from './made-image.ts';

/** An index, open here and in that file: its head is `head`. */
export interface IndexAt {
  readonly file: string;
  readonly head: Buffer;
}

/** Who makes images of layers from the heads of their indexes. */
export interface ImageMaker {
  /** @throws {CodedError} `INDEX_INVALID`, `LAYER_NOT_LAZY`, `MEMBER_BUSY`, `DRAINING` */
  ask<Q extends ImageQuestion>(index: IndexAt, question: Q): Promise<ImageAnswers[Q['type']]>;
}

/** To the process. */
export interface ImageJob {
  readonly indexFile: string;
  readonly headBytes: number;
  readonly question: ImageQuestion;
  /** Where extents and metadata of an image go: messages are kept in memory by both sides, in many pieces. */
  readonly into: string;
}

/** What of an image is in a file: image, layer and length of its extents as 64-bit floats, then the metadata. */
export interface ImageInFile extends Omit<MadeImage, 'meta' | 'extents'> {
  readonly extentsInFile: number;
}

/** From the process: an answer, or what is wrong with the layer. A bug ends it. */
export type ImageDone =
  | { readonly answer: ImageInFile | Exclude<ImageAnswers[ImageQuestion['type']], MadeImage> }
  | {
      readonly refused: {
        readonly code: ErrorCode;
        readonly message: string;
        readonly detail: ErrorDetail;
      };
    };

interface Waiting {
  readonly job: ImageJob;
  readonly resolve: (answer: never) => void;
  readonly reject: (error: unknown) => void;
}

/** Layers of so few entries are made here at once: to start a process takes longer. */
const FEW_ENTRIES = 4_096;
/** Jobs that wait at once; an image has 500 layers at most. */
const MAX_JOBS = 4_096;
/** The process ends after so long without a job, in ms. */
const IDLE_MS = 2_000;
/** One job may take so long, in ms: a million entries take some seconds. */
const JOB_MS = 120_000;
/** What it may take for objects, in MiB: some millions of entries. */
const HEAP_MIB = 2_048;

/**
 * Makes images in a process of its own, which starts with a job: entries of layers become objects of hundreds of bytes
 * each, which V8 does not give back to the system for long, and a layer that has too many of them must not end the
 * daemon.
 */
export class ImageProcess implements ImageMaker {
  /** In the order in which they are worked on; the first one now. */
  readonly #jobs: Waiting[] = [];
  #child: ChildProcess | undefined;
  #idle: NodeJS.Timeout | undefined;
  #late: NodeJS.Timeout | undefined;
  #isClosed = false;
  readonly #into: string;
  readonly #jobMs: number;

  /** `dir`: where the process may leave a file. */
  constructor(dir: string, options: { readonly jobMs?: number } = {}) {
    this.#into = join(dir, 'made-image');
    this.#jobMs = options.jobMs ?? JOB_MS;
  }

  async ask<Q extends ImageQuestion>(
    { file: indexFile, head }: IndexAt,
    question: Q,
  ): Promise<ImageAnswers[Q['type']]> {
    if (this.#isClosed) throw new CodedError('DRAINING');
    if (indexEntries(head) <= FEW_ENTRIES) return answerFrom(head, question);
    if (this.#jobs.length >= MAX_JOBS) throw new CodedError('MEMBER_BUSY');
    return await new Promise<ImageAnswers[Q['type']]>((resolve, reject) => {
      const job = { indexFile, headBytes: head.length, question, into: this.#into };
      this.#jobs.push({ job, resolve, reject });
      if (this.#jobs.length === 1) this.#work();
    });
  }

  /** Ends the process; jobs that wait fail. */
  close(): void {
    this.#isClosed = true;
    this.#rest();
    for (const waiting of this.#jobs.splice(0)) waiting.reject(new CodedError('DRAINING'));
  }

  /** One job at a time. */
  #work(): void {
    clearTimeout(this.#idle);
    const [first] = this.#jobs;
    if (first === undefined) {
      this.#idle = setTimeout(() => this.#rest(), IDLE_MS).unref();
      return;
    }
    const child = this.#start();
    this.#late = setTimeout(() => child.kill('SIGKILL'), this.#jobMs).unref();
    // What it does not get is told by its end.
    child.send(first.job, () => undefined);
  }

  #start(): ChildProcess {
    if (this.#child !== undefined) return this.#child;
    mkdirSync(dirname(this.#into), { recursive: true, mode: 0o700 });
    const child = fork(new URL('./image-child.ts', import.meta.url), [], {
      serialization: 'advanced',
      execArgv: [...process.execArgv, `--max-old-space-size=${HEAP_MIB}`],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    child.on('message', (done: ImageDone) => {
      if (this.#child === child) this.#take(done);
    });
    child.once('error', () => this.#ended(child, 'could not be started'));
    child.once('exit', (code, signal) => this.#ended(child, `ended with ${signal ?? code}`));
    this.#child = child;
    return child;
  }

  #take(done: ImageDone): void {
    clearTimeout(this.#late);
    const waiting = this.#jobs.shift();
    try {
      if ('answer' in done) {
        const { answer } = done;
        waiting?.resolve(('extentsInFile' in answer ? imageIn(this.#into, answer) : answer) as never);
      } else {
        const { code, message, detail } = done.refused;
        waiting?.reject(new CodedError(code, { message, detail }));
      }
    } catch (error) {
      // What it left could not be read: whoever waits for it says so, bugs too.
      waiting?.reject(error);
    }
    this.#work();
  }

  #rest(): void {
    clearTimeout(this.#idle);
    clearTimeout(this.#late);
    // The next job gets a process of its own, whenever this one has ended.
    this.#child?.kill('SIGKILL');
    this.#child = undefined;
  }

  /** It was about the first job; the others go to another process. */
  #ended(child: ChildProcess, how: string): void {
    if (this.#child !== child) return;
    clearTimeout(this.#late);
    this.#child = undefined;
    const message = `the process that makes its image ${how}: it may have too many entries, or take too long`;
    this.#jobs.shift()?.reject(new CodedError('LAYER_NOT_LAZY', { message }));
    this.#work();
  }
}

function imageIn(file: string, { extentsInFile: count, ...facts }: ImageInFile): MadeImage {
  const bytes = readFileSync(file);
  const numbers = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + 24 * count);
  const [image, layer, length] = [0, 1, 2].map(
    (column) => new Float64Array(numbers, 8 * count * column, count),
  );
  const extents = { image: image!, layer: layer!, length: length! };
  return { ...facts, meta: bytes.subarray(24 * count), extents };
}
