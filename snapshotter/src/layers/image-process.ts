import { type ChildProcess, fork } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { CodedError, type ErrorCode, type ErrorDetail } from '@sepia/base/errors';
import { isBug } from '@sepia/base/failure';
import { isOutOfFiles, outOfFiles } from '@sepia/base/system/open-files';
import type { MadeImage } from '@sepia/lazy/erofs/image-part';
import { indexEntries } from '@sepia/lazy/index/layer-index';
import { IMAGE_IDLE_MS, IMAGE_MS } from '../deadlines.ts';
import { answerFrom, type ImageAnswers, type ImageQuestion } from './made-image.ts';

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

/**
 * The part of an image that is handed over in a file: for each extent image offset, layer offset and length as 64-bit floats,
 * then the metadata.
 */
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
  readonly job: Omit<ImageJob, 'into'>;
  readonly resolve: (answer: never) => void;
  readonly reject: (error: unknown) => void;
}

/** A process, and what it works on. */
interface Maker {
  readonly child: ChildProcess;
  /** Where it leaves extents and metadata of an image. */
  readonly into: string;
  waiting: Waiting | undefined;
  late: NodeJS.Timeout | undefined;
}

/** Layers of so few entries are made here at once: to start a process takes longer. */
const FEW_ENTRIES = 4_096;
/** Jobs that wait at once; an image has 500 layers at most. */
const MAX_JOBS = 4_096;
/** A second process starts where so many jobs wait: for fewer it takes longer to start than they do. */
const MANY_JOBS = 6;
/** Processes at once, where there are as many processors. */
const MAX_PROCESSES = 2;
/** What one may take for objects, in MiB: some millions of entries. */
const HEAP_MIB = 2_048;
/** Room for objects that soon go, in MiB: with V8's 16, collecting them takes a fifth of a job. */
const YOUNG_MIB = 64;

/**
 * Makes images in processes of their own, which start with jobs: entries of layers become objects of hundreds of bytes
 * each, which V8 does not give back to the system for long, and a layer that has too many of them must not end the
 * daemon.
 */
export class ImageProcess implements ImageMaker {
  /** In the order in which they are worked on. */
  readonly #jobs: Waiting[] = [];
  readonly #makers: Maker[] = [];
  #idle: NodeJS.Timeout | undefined;
  #isClosed = false;
  readonly #dir: string;
  readonly #jobMs: number;
  readonly #most: number;

  /** `dir`: where the processes may leave a file each. */
  constructor(dir: string, options: { readonly jobMs?: number } = {}) {
    this.#dir = dir;
    this.#jobMs = options.jobMs ?? IMAGE_MS;
    this.#most = Math.min(MAX_PROCESSES, availableParallelism());
  }

  async ask<Q extends ImageQuestion>(
    { file: indexFile, head }: IndexAt,
    question: Q,
  ): Promise<ImageAnswers[Q['type']]> {
    if (this.#isClosed) throw new CodedError('DRAINING');
    if (indexEntries(head) <= FEW_ENTRIES) return answerFrom(head, question);
    if (this.#jobs.length >= MAX_JOBS) throw new CodedError('MEMBER_BUSY');
    return await new Promise<ImageAnswers[Q['type']]>((resolve, reject) => {
      const job = { indexFile, headBytes: head.length, question };
      this.#jobs.push({ job, resolve, reject });
      this.#work();
    });
  }

  /** Ends the processes; jobs that wait fail. */
  close(): void {
    this.#isClosed = true;
    const open = [...this.#makers.flatMap(({ waiting }) => waiting ?? []), ...this.#jobs.splice(0)];
    this.#rest();
    for (const waiting of open) waiting.reject(new CodedError('DRAINING'));
  }

  /** Each process has one job at a time. */
  #work(): void {
    clearTimeout(this.#idle);
    while (this.#jobs.length > 0) {
      let maker: Maker | undefined;
      try {
        maker = this.#makers.find(({ waiting }) => waiting === undefined) ?? this.#start();
      } catch (error) {
        // One that runs does them all.
        if (this.#makers.length > 0 && !isBug(error)) return;
        this.#jobs.shift()!.reject(isBug(error) ? error : notStarted(error as Error));
        continue;
      }
      if (maker === undefined) return;
      const waiting = this.#jobs.shift()!;
      maker.waiting = waiting;
      maker.late = setTimeout(() => maker.child.kill('SIGKILL'), this.#jobMs).unref();
      const job: ImageJob = { ...waiting.job, into: maker.into };
      // What it does not get is told by its end; one that could not be started has no channel.
      if (maker.child.connected) maker.child.send(job, () => undefined);
    }
    if (this.#makers.every(({ waiting }) => waiting === undefined))
      this.#idle = setTimeout(() => this.#rest(), IMAGE_IDLE_MS).unref();
  }

  /** Another process, where one is worth its start. */
  #start(): Maker | undefined {
    const running = this.#makers.length;
    if (running >= this.#most || (running > 0 && this.#jobs.length < MANY_JOBS)) return undefined;
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
    const child = fork(new URL('./image-child.ts', import.meta.url), [], {
      serialization: 'advanced',
      execArgv: [
        ...process.execArgv,
        `--max-old-space-size=${HEAP_MIB}`,
        `--max-semi-space-size=${YOUNG_MIB}`,
      ],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const taken = new Set(this.#makers.map(({ into }) => into));
    const names = Array.from({ length: this.#most }, (_none, at) => join(this.#dir, `made-image-${at}`));
    const into = names.find((name) => !taken.has(name))!;
    const maker: Maker = { child, into, waiting: undefined, late: undefined };
    child.on('message', (done: ImageDone) => {
      if (this.#makers.includes(maker)) this.#take(maker, done);
    });
    child.once('error', (cause) => this.#ended(maker, notStarted(cause)));
    child.once('exit', (code, signal) => this.#ended(maker, tooMuch(`ended with ${signal ?? code}`)));
    this.#makers.push(maker);
    return maker;
  }

  #take(maker: Maker, done: ImageDone): void {
    clearTimeout(maker.late);
    const { waiting } = maker;
    maker.waiting = undefined;
    try {
      if ('answer' in done) {
        const { answer } = done;
        waiting?.resolve(('extentsInFile' in answer ? imageIn(maker.into, answer) : answer) as never);
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
    // The next job gets a process of its own, whenever these have ended.
    for (const { child, late } of this.#makers.splice(0)) {
      clearTimeout(late);
      child.kill('SIGKILL');
    }
  }

  /** It was about its own job; the others go to another process. */
  #ended(maker: Maker, why: CodedError): void {
    const at = this.#makers.indexOf(maker);
    if (at < 0) return;
    this.#makers.splice(at, 1);
    clearTimeout(maker.late);
    maker.waiting?.reject(why);
    this.#work();
  }
}

function tooMuch(how: string): CodedError {
  const message = `the process that makes its image ${how}: it may have too many entries, or take too long`;
  return new CodedError('LAYER_NOT_LAZY', { message });
}

/** For want of a descriptor, a process or memory: that says nothing of the layer. */
function notStarted(cause: Error): CodedError {
  if (isOutOfFiles(cause)) return outOfFiles(cause);
  const message = `the process that makes its image could not be started: ${cause.message}`;
  return new CodedError('MEMBER_BUSY', { message, cause });
}

/** Takes it from its file, which is as large as the metadata of a layer and counts to no budget. */
function imageIn(file: string, { extentsInFile: count, ...facts }: ImageInFile): MadeImage {
  const bytes = readFileSync(file);
  rmSync(file, { force: true });
  const numbers = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + 24 * count);
  const [image, layer, length] = [0, 1, 2].map(
    (column) => new Float64Array(numbers, 8 * count * column, count),
  );
  const extents = { image: image!, layer: layer!, length: length! };
  return { ...facts, meta: bytes.subarray(24 * count), extents };
}
