import { writevSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { systemCode } from '@sepia/base/errors';
import { ignoreFailure, logFailure, throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { ERRNO, replyHeader, resendNotice } from './messages.ts';
import { type FromWorker, keyOf, type ShownFile, type ToWorker } from './shown-file.ts';

interface FuseDeps {
  readonly log: Logger;
  /** Reads what is not on disk yet; its bytes must be verified. A rejection becomes EIO for the reader. */
  readonly readMiss: (name: string, offset: number, size: number) => Promise<Buffer>;
  /** The mount is gone, or the worker died: nothing can be served any more. */
  readonly onEnd: (why: 'unmounted' | 'failed') => void;
}

interface FuseOptions {
  /** `/dev/fuse`, already mounted at `mountPoint`. */
  readonly fd: number;
  readonly mountPoint: string;
}

/** What the mount shows: flat files in its root. */
export type FileToShow = Omit<ShownFile, 'key'>;

/**
 * Serves one FUSE mount of flat, read-only files. A worker thread answers what is on disk; misses are answered here,
 * so a slow source never holds up a read of what is there.
 */
export class FuseServer {
  readonly #deps: FuseDeps;
  readonly #options: FuseOptions;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #ended: Promise<void>;
  #isStopping = false;
  #missing = 0;
  #wakes = 0;

  constructor(deps: FuseDeps, options: FuseOptions, files: readonly FileToShow[]) {
    this.#deps = deps;
    this.#options = options;
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    for (const file of files) this.#send({ type: 'show', file: { ...file, key: keyOf(file.name) } });
    this.#worker = new Worker(new URL('./worker.ts', import.meta.url), {
      workerData: { fd: options.fd, port: port2 },
      transferList: [port2],
    });
    this.#ended = new Promise((settle) => this.#worker.once('exit', () => settle()));
    this.#port.on('message', (message: FromWorker) => this.#take(message));
    this.#worker.on('error', (error) => {
      deps.log.error({ err: error }, 'the FUSE thread failed');
      deps.onEnd('failed');
    });
    this.#write([resendNotice()]);
  }

  /** Reads that wait for their bytes. */
  get missing(): number {
    return this.#missing;
  }

  /** Shows a file; it is there for the next look-up. */
  show(file: FileToShow): void {
    this.#send({ type: 'show', file: { ...file, key: keyOf(file.name) } });
  }

  /** A file is served no longer, not to who has it open either: once this resolves, its descriptor may be closed. */
  async hide(name: string): Promise<void> {
    this.#send({ type: 'hide', name });
    await this.#wake();
  }

  /** Resolves once the mount has answered a look-up. */
  async answers(): Promise<void> {
    await this.#wake();
  }

  /** Stops answering; the mount stays, and its readers wait for the next process. */
  async stop(): Promise<void> {
    if (!this.#isStopping) {
      this.#isStopping = true;
      // Others may look something up meanwhile: the one that we wait for is the last that is answered.
      const last = this.#nameOfWake();
      this.#send({ type: 'stop', last });
      await this.#lookUp(last);
    }
    await this.#ended;
    this.#port.close();
  }

  /** The worker blocks in a read: a look-up wakes it, and is answered after what it was sent before. */
  async #wake(): Promise<void> {
    await this.#lookUp(this.#nameOfWake());
  }

  /** A name of its own: a second look-up of one name waits for the first, and is not sent. */
  #nameOfWake(): string {
    this.#wakes += 1;
    return `.wake-${this.#wakes}`;
  }

  async #lookUp(name: string): Promise<void> {
    await stat(join(this.#options.mountPoint, name)).catch(ignoreFailure);
  }

  #send(message: ToWorker): void {
    this.#port.postMessage(message);
  }

  #take(message: FromWorker): void {
    if (message.type === 'miss') void this.#answerMiss(message);
    else if (message.type === 'disk-failed') this.#deps.log.error(message, 'cached content cannot be read');
    else if (message.type === 'ended' && message.why === 'unmounted' && !this.#isStopping)
      this.#deps.onEnd('unmounted');
  }

  async #answerMiss(miss: Extract<FromWorker, { type: 'miss' }>): Promise<void> {
    this.#missing += 1;
    try {
      const bytes = await this.#deps.readMiss(miss.name, miss.offset, miss.size);
      this.#write([replyHeader(miss.unique, 0, bytes.length), bytes]);
    } catch (error) {
      // The next process is sent the request again.
      if (this.#isStopping) return;
      const { name, offset, size } = miss;
      logFailure(this.#deps.log, error, 'a read failed with EIO', { name, offset, size });
      this.#write([replyHeader(miss.unique, ERRNO.EIO, 0)]);
    } finally {
      this.#missing -= 1;
    }
  }

  #write(parts: readonly Buffer[]): void {
    try {
      writevSync(this.#options.fd, [...parts]);
    } catch (error) {
      throwIfBug(error);
      // ENOENT: the reader is gone. ENODEV: the mount is. EINVAL: a kernel that knows no resend.
      if (!['ENOENT', 'ENODEV', 'EINVAL', 'EPERM'].includes(systemCode(error) ?? '')) throw error;
    }
  }
}
