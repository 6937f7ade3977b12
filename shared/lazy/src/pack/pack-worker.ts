import { parentPort } from 'node:worker_threads';
import { type PackJob, packBatch } from './batch.ts';

/** A thread of a `PackPool`: packs what it is sent and sends all bytes back without a copy. */
parentPort?.on('message', ({ id, job }: { id: number; job: PackJob }) => {
  const packed = packBatch(job);
  const buffers = [packed.raw.buffer, packed.packed.buffer as ArrayBuffer];
  parentPort?.postMessage({ id, packed }, buffers);
});
