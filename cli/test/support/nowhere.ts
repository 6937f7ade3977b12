import { Writable } from 'node:stream';

/** An output that nobody sees: no terminal, nothing kept. */
export function nowhere(): NodeJS.WriteStream {
  return new Writable({ write: (_chunk, _encoding, done) => done() }) as unknown as NodeJS.WriteStream;
}
