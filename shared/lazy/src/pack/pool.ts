import { Worker } from 'node:worker_threads';
import type { Packed, Packer, PackJob } from './batch.ts';

interface Waiting {
  readonly resolve: (packed: Packed) => void;
  readonly reject: (error: unknown) => void;
}

interface Thread {
  readonly worker: Worker;
  readonly jobs: Map<number, Waiting>;
}

/**
 * Packs on worker threads. The bytes of a job move to the thread and back, they are not copied: after `pack` the caller's
 * array is empty. Threads start with the first job and end by {@link close}.
 */
export class PackPool implements Packer {
  readonly width: number;
  readonly #threads: Thread[] = [];
  #nextId = 0;
  #isClosed = false;

  /** @param threads how many at most, at least 1 */
  constructor(threads: number) {
    this.width = Math.max(1, threads);
  }

  pack(job: PackJob): Promise<Packed> {
    if (this.#isClosed) return Promise.reject(new TypeError('pack() after close()'));
    const thread = this.#idlest();
    const id = this.#nextId;
    this.#nextId += 1;
    const answer = new Promise<Packed>((resolve, reject) => void thread.jobs.set(id, { resolve, reject }));
    thread.worker.postMessage({ id, job }, [job.raw.buffer]);
    return answer;
  }

  /** Ends the threads; jobs that wait fail. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const threads = this.#threads.splice(0);
    await Promise.all(threads.map((thread) => thread.worker.terminate()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #idlest(): Thread {
    const idlest = this.#threads.toSorted((one, other) => one.jobs.size - other.jobs.size)[0];
    if (idlest !== undefined && (idlest.jobs.size === 0 || this.#threads.length >= this.width)) return idlest;
    const thread = start(() => void this.#threads.splice(this.#threads.indexOf(thread) >>> 0, 1));
    this.#threads.push(thread);
    return thread;
  }
}

function start(onEnd: () => void): Thread {
  const jobs = new Map<number, Waiting>();
  const worker = new Worker(new URL('./pack-worker.ts', import.meta.url));
  const fail = (error: unknown): void => {
    onEnd();
    for (const waiting of jobs.values()) waiting.reject(error);
    jobs.clear();
  };
  worker.on('message', ({ id, packed }: { id: number; packed: Packed }) => {
    jobs.get(id)?.resolve(packed);
    jobs.delete(id);
  });
  worker.on('error', fail);
  worker.on('exit', (code) => fail(new Error(`compression thread ended with ${code}`)));
  return { worker, jobs };
}
