import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import t from 'tap';
import { clusterSource } from '../../src/net/cluster-source.ts';
import type { Proxies } from '../../src/net/proxies.ts';

const BYTES = Buffer.from('a layer');

/** A cluster that has one blob, and answers ranges of it as a registry does. */
const proxies = {
  call: async ({ headers }: { readonly headers: { readonly range?: string } }) => {
    const from = Number(/bytes=(\d+)-/.exec(headers.range ?? '')?.[1] ?? 0);
    if (from >= BYTES.length) throw new CodedError('RANGE_INVALID');
    const body = (async function* () {
      yield BYTES.subarray(from);
    })();
    return { status: from === 0 ? 200 : 206, headers: {}, body };
  },
} as unknown as Proxies;

const read = async (sizeBytes: number): Promise<string> => {
  const source = clusterSource(proxies, { upstream: 'local', repository: 'team/app' });
  const chunks: Uint8Array[] = [];
  await source.blob({ digest: digestOf(BYTES), sizeBytes }, async (chunk) => void chunks.push(chunk));
  return Buffer.concat(chunks).toString();
};

t.test('a manifest that lies about the length of a blob is told so', async (t) => {
  t.equal(await read(BYTES.length), 'a layer');
  await t.rejects(read(BYTES.length + 1), {
    code: 'SIZE_MISMATCH',
    message: /has 7 bytes, the manifest says 8/,
  });
  await t.rejects(read(2), { code: 'SIZE_MISMATCH', message: /longer than the 2 bytes/ });
});

t.test('the rest of a blob that nobody wants is not asked for', async (t) => {
  let isOpen = true;
  const call = async () => {
    const body = (async function* () {
      try {
        for (;;) yield BYTES;
      } finally {
        isOpen = false;
      }
    })();
    return { status: 200, headers: {}, body };
  };
  const source = clusterSource({ call } as unknown as Proxies, { upstream: 'local', repository: 'team/app' });
  const enough = new Error('enough');
  const take = async (): Promise<void> => {
    throw enough;
  };
  await t.rejects(source.blob({ digest: digestOf(BYTES), sizeBytes: BYTES.length }, take), enough);
  t.notOk(isOpen);
});

t.test('a repository has what is served as its own', async (t) => {
  const asked: string[] = [];
  let says: CodedError | undefined;
  const call = async ({ method, path }: { readonly method: string; readonly path: string }) => {
    asked.push(`${method} ${path}`);
    if (says !== undefined) throw says;
    return { status: 200, headers: {}, body: { dump: async () => undefined } };
  };
  const source = clusterSource({ call } as unknown as Proxies, { upstream: 'local', repository: 'team/app' });
  const digest = digestOf(BYTES);
  t.equal(await source.has!(digest), true);
  says = new CodedError('BLOB_UNKNOWN');
  t.equal(await source.has!(digest), false);
  says = new CodedError('BACKEND_DOWN');
  await t.rejects(source.has!(digest), { code: 'BACKEND_DOWN' });
  t.same(new Set(asked), new Set([`HEAD /v2/team/app/blobs/${digest}`]));
});
