/**
 * Frees the memory of a chunk that came from a socket and that nobody looks at any more: views of it become empty.
 * V8 would find it only by marking its whole heap, some hundred times a GiB. A chunk that shares its memory is left alone.
 */
export function giveBack(chunk: Uint8Array): void {
  const { buffer } = chunk;
  if (chunk.byteLength === buffer.byteLength && buffer instanceof ArrayBuffer) buffer.transfer(0);
}
