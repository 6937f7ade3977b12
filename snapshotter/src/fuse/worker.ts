import { readSync, writevSync } from 'node:fs';
import { type MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { SUM_BLOCK, wrongBlocks } from './block-sums.ts';
import {
  attrReply,
  ERRNO,
  entryReply,
  initReply,
  OP,
  openReply,
  parseName,
  parseRead,
  parseRequest,
  REQUEST_BUFFER_BYTES,
  type Request,
  ROOT_KEY,
  readdirReply,
  replyHeader,
  statfsReply,
} from './messages.ts';
import { type FromWorker, hasBlocks, keyOf, noteRead, type ShownFile, type ToWorker } from './shown-file.ts';

/** Requests without an answer. */
const SILENT: ReadonlySet<number> = new Set([OP.forget, OP.batchForget, OP.interrupt]);
/** Answered "done": nothing is kept open. */
const DONE: ReadonlySet<number> = new Set([OP.release, OP.releasedir, OP.flush]);

/** Reads that are counted; later ones are of the same turn. */
const MAX_TURNS = 2 ** 31 - 1;

/** A file with what both threads see of it. */
interface Served extends ShownFile {
  readonly bits: Int32Array;
  readonly right: Int32Array;
  readonly firsts: Int32Array;
}

/** A body, or an error number (0: done, without a body). */
type Answer = Buffer | number;

/**
 * The thread that blocks on `/dev/fuse`: it answers all but reads of what is not on disk yet; those it hands to the
 * main thread, which answers them itself. Messages for it are taken after each request, so whoever sends one may have
 * to wake it by touching the mount.
 */
class FuseWorker {
  readonly #fd: number;
  readonly #port: MessagePort;
  readonly #request = Buffer.alloc(REQUEST_BUFFER_BYTES);
  readonly #data = Buffer.alloc(REQUEST_BUFFER_BYTES);
  readonly #byName = new Map<string, ShownFile>();
  readonly #byKey = new Map<string, Served>();
  #turn = 0;
  /** The look-up after which it ends. */
  #last: string | undefined;

  constructor(fd: number, port: MessagePort) {
    this.#fd = fd;
    this.#port = port;
  }

  run(): void {
    this.#tell({ type: 'ready' });
    for (;;) {
      const length = this.#next();
      this.#takeMessages();
      if (length === undefined) {
        this.#tell({ type: 'ended', why: 'unmounted' });
        return;
      }
      if (length === 0) continue;
      const request = parseRequest(this.#request.subarray(0, length));
      const answer = this.#answerOf(request);
      if (answer !== undefined) this.#reply(request, answer);
      // The kernel asks for more before it, the root's attributes; and so may others.
      if (request.op === OP.lookup && this.#last !== undefined && parseName(request.body) === this.#last)
        break;
    }
    this.#tell({ type: 'ended', why: 'stopped' });
  }

  /** @returns the request's length, 0 to try again, undefined where the mount is gone */
  #next(): number | undefined {
    try {
      return readSync(this.#fd, this.#request, 0, this.#request.length, null);
    } catch (error) {
      const code = systemCode(error);
      // ENOENT: the request was taken back by its process.
      if (code === 'ENOENT' || code === 'EINTR' || code === 'EAGAIN') return 0;
      if (code === 'ENODEV') return undefined;
      throw error;
    }
  }

  #takeMessages(): void {
    for (
      let next = receiveMessageOnPort(this.#port);
      next !== undefined;
      next = receiveMessageOnPort(this.#port)
    ) {
      const message = next.message as ToWorker;
      if (message.type === 'stop') this.#last = message.last;
      else if (message.type === 'hide') {
        this.#byName.delete(message.name);
        this.#byKey.delete(keyOf(message.name));
      } else {
        this.#byName.set(message.file.name, message.file);
        const { blocks, sums, turns } = message.file;
        const [bits, right, firsts] = [new Int32Array(blocks), new Int32Array(sums), new Int32Array(turns)];
        this.#byKey.set(message.file.key, { ...message.file, bits, right, firsts });
      }
    }
  }

  /** What is answered at once: a body or an error number; undefined where nobody waits or the main thread answers. */
  #answerOf(request: Request): Answer | undefined {
    if (SILENT.has(request.op)) return undefined;
    if (DONE.has(request.op)) return 0;
    switch (request.op) {
      case OP.init:
        return initReply(request.body);
      case OP.lookup:
        return this.#lookup(request);
      case OP.getattr:
        return this.#getattr(request);
      case OP.read:
        return this.#read(request);
      case OP.opendir:
        return request.key === ROOT_KEY ? openReply() : ERRNO.ENOTDIR;
      case OP.readdir: {
        const { offset, size } = parseRead(request.body);
        return readdirReply([...this.#byName.values()], offset, size);
      }
      case OP.statfs:
        return statfsReply(this.#byName.size);
      default:
        // OPEN too: the kernel then opens by itself, keeps its cache, and asks no more.
        return ERRNO.ENOSYS;
    }
  }

  #lookup(request: Request): Answer {
    const file = request.key === ROOT_KEY ? this.#byName.get(parseName(request.body)) : undefined;
    return file === undefined ? ERRNO.ENOENT : entryReply(file);
  }

  #getattr(request: Request): Answer {
    const file = this.#byKey.get(request.key);
    return file === undefined && request.key !== ROOT_KEY ? ERRNO.ENOENT : attrReply(file);
  }

  #read(request: Request): Answer | undefined {
    const file = this.#byKey.get(request.key);
    // A file that this process does not know is one of its predecessor's that could not be opened again.
    if (file === undefined) return ERRNO.EIO;
    const { offset, size } = parseRead(request.body);
    const length = Math.max(0, Math.min(size, file.sizeBytes - offset));
    if (length === 0) return 0;
    this.#turn = Math.min(this.#turn + 1, MAX_TURNS);
    noteRead(file.firsts, this.#turn, offset, length);
    const answer = hasBlocks(file.bits, offset, length) ? this.#onDisk(file, offset, length) : undefined;
    if (answer !== undefined) return answer;
    const unique = Uint8Array.from(request.unique);
    this.#tell({ type: 'miss', unique, name: file.name, offset, size: length });
    return undefined;
  }

  /** What the file holds there; undefined where its sums do not fit or the disk fails: then it is not there. */
  #onDisk(file: Served, offset: number, length: number): Buffer | undefined {
    const from = offset - (offset % SUM_BLOCK);
    const wanted = Math.ceil((offset + length) / SUM_BLOCK) * SUM_BLOCK - from;
    // The kernel asks for whole pages.
    if (wanted > this.#data.length) return undefined;
    try {
      const read = readSync(file.fd, this.#data, 0, wanted, from);
      const bytes = this.#data.subarray(0, wanted);
      const isRight = read === wanted && wrongBlocks(file.right, bytes, from).length === 0;
      // Who found it damaged meanwhile may have begun to write it anew.
      if (!isRight || !hasBlocks(file.bits, offset, length)) return undefined;
      return bytes.subarray(offset - from, offset - from + length);
    } catch (error) {
      throwIfBug(error);
      this.#tell({ type: 'disk-failed', name: file.name, code: systemCode(error) ?? String(error) });
      return undefined;
    }
  }

  #reply(request: Request, answer: Answer): void {
    const parts =
      typeof answer === 'number'
        ? [replyHeader(request.unique, answer, 0)]
        : [replyHeader(request.unique, 0, answer.length), answer];
    try {
      writevSync(this.#fd, parts);
    } catch (error) {
      throwIfBug(error);
      const code = systemCode(error);
      // ENOENT: its process is gone; ENODEV: the mount is.
      if (code !== 'ENOENT' && code !== 'ENODEV') throw error;
    }
  }

  #tell(message: FromWorker): void {
    this.#port.postMessage(message);
  }
}

const { fd, port } = workerData as { fd: number; port: MessagePort };
new FuseWorker(fd, port).run();
