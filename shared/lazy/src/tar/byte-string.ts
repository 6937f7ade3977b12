/**
 * Bytes as a string with one character per byte (latin1). File names in layers are bytes, not text: this form keeps
 * them as they are, works as a key of a `Map`, and compares with `<` as the bytes do.
 */
export type ByteString = string & { readonly __brand: 'ByteString' };

/** The byte string of these bytes, as a copy; all values 0 to 255 are kept. */
export function byteString(bytes: Uint8Array): ByteString {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1') as ByteString;
}

/** The byte string of a text, by its UTF-8 bytes. */
export function byteStringOf(text: string): ByteString {
  return Buffer.from(text, 'utf8').toString('latin1') as ByteString;
}

/** The bytes that a byte string stands for, as a copy. */
export function bytesOf(name: ByteString): Buffer {
  return Buffer.from(name, 'latin1');
}

/** A byte string as text; bytes that are not UTF-8 become U+FFFD, so use it to show names, never to find them. */
export function textOf(name: ByteString): string {
  return bytesOf(name).toString('utf8');
}
