/**
 * Frees the memory of a chunk that came from a socket and that nobody looks at any more: views of it become empty.
 * V8 would find it only by marking its whole heap, some hundred times a GiB. A chunk that shares its memory, or whose
 * memory is free already, is left alone.
 */
export function giveBack(chunk: Uint8Array): void {
  const { buffer, byteLength } = chunk;
  if (byteLength > 0 && byteLength === buffer.byteLength && buffer instanceof ArrayBuffer) buffer.transfer(0);
}
