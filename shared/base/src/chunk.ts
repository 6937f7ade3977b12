/** Bytes that are read from a socket at once, at most: each read costs a system call, each chunk its way through undici. */
export const READ_BYTES = 256 * 1024;
/** Memory of chunks that waits for the next one, at most: a stream needs as much. */
const KEPT = 4;

/**
 * Where sockets are read into, all of them: a chunk is handed on, or copied, before the next read. Without it every read
 * leaves 64 KiB behind, which V8 finds only by marking its whole heap.
 */
export const READ_BUFFER = Buffer.allocUnsafeSlow(READ_BYTES);

const kept: ArrayBuffer[] = [];

/** The first `count` bytes of {@link READ_BUFFER}, in memory of their own, alone in it. */
export function keepRead(count: number): Buffer {
  const memory = count === READ_BYTES ? kept.pop() : undefined;
  const chunk = memory === undefined ? Buffer.allocUnsafeSlow(count) : Buffer.from(memory);
  READ_BUFFER.copy(chunk, 0, 0, count);
  return chunk;
}

/**
 * Frees the memory of a chunk that came from a socket and that nobody looks at any more: views of it become empty.
 * V8 would find it only by marking its whole heap, some hundred times a GiB. A chunk that shares its memory, or whose
 * memory is free already, is left alone.
 */
export function giveBack(chunk: Uint8Array): void {
  const { buffer, byteLength } = chunk;
  if (byteLength > 0 && byteLength === buffer.byteLength && buffer instanceof ArrayBuffer) free(buffer);
}

/**
 * As {@link giveBack}, for a chunk of a body as undici hands it out, once all before it was read: the first of an answer
 * shares its memory with the answer's headers, which are strings by then. Nothing may lie behind it in that memory.
 */
export function giveBackRead(chunk: Uint8Array): void {
  const { buffer, byteLength, byteOffset } = chunk;
  const isEnd = byteLength > 0 && byteOffset + byteLength === buffer.byteLength;
  // Node's pool holds others' buffers; what lies in it is smaller than half of it.
  const isPooled = buffer.byteLength === Buffer.poolSize && byteLength < Buffer.poolSize / 2;
  if (isEnd && !isPooled && buffer instanceof ArrayBuffer) free(buffer);
}

/**
 * The same bytes alone in their memory, for who keeps them long: a small buffer lies in a pool of Node's, and the 8 KiB of that
 * stay as long as any buffer in it.
 */
export function alone<B extends Uint8Array>(bytes: B): B | Buffer {
  if (bytes.length === bytes.buffer.byteLength) return bytes;
  const own = Buffer.allocUnsafeSlow(bytes.length);
  own.set(bytes);
  return own;
}

/** Views of it become empty either way; memory of the size of a full read is used for the next: fresh one costs a fault a page. */
function free(memory: ArrayBuffer): void {
  if (memory.byteLength === READ_BYTES && kept.length < KEPT) kept.push(memory.transfer());
  else memory.transfer(0);
}
