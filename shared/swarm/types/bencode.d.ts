declare module 'bencode' {
  const bencode: {
    encode(value: unknown): Uint8Array;
    decode(bytes: Uint8Array): unknown;
  };
  // biome-ignore lint/style/noDefaultExport: that is how the module exports
  export default bencode;
}
