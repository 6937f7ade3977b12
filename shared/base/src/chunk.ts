/**
 * Frees the memory of a chunk that came from a socket and that nobody looks at any more: views of it become empty.
 * V8 would find it only by marking its whole heap, some hundred times a GiB. A chunk that shares its memory, or whose
 * memory is free already, is left alone.
 */
export function giveBack(chunk: Uint8Array): void {
  const { buffer, byteLength } = chunk;
  if (byteLength > 0 && byteLength === buffer.byteLength && buffer instanceof ArrayBuffer) buffer.transfer(0);
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
  if (isEnd && !isPooled && buffer instanceof ArrayBuffer) buffer.transfer(0);
}
