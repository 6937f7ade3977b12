import { createHash } from 'node:crypto';
import { createBLAKE3 } from 'hash-wasm';
import type { Digester } from './format.ts';

/** Hashes the content of chunks, in hex. Node has no BLAKE3, which nydus-image takes by default. */
export async function chunkHasher(digester: Digester): Promise<(raw: Uint8Array) => string> {
  if (digester === 'sha256') return (raw) => createHash('sha256').update(raw).digest('hex');
  const blake3 = await createBLAKE3();
  return (raw) => blake3.init().update(raw).digest();
}
