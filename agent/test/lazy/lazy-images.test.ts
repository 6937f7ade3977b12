import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { LazyAnswer } from '@sepia/cluster/api/lazy-offers';
import type { Cluster } from '@sepia/cluster/cluster';
import { OCI_CONFIG } from '@sepia/lazy/convert/documents';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import t from 'tap';
import { LazyImages } from '../../src/lazy/lazy-images.ts';
import { Offers } from '../../src/lazy/offers.ts';

const NEVER = new AbortController().signal;
const TARGET = { upstream: 'up', repository: parseRepositoryName('team/app') };
const nowMs = (): number => performance.now();
const digest = (text: string) => digestOf(Buffer.from(text), 'sha256');

const CONFIG = Buffer.from(JSON.stringify({ rootfs: { type: 'layers', diff_ids: [digest('of another')] } }));
const MANIFEST = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: { mediaType: OCI_CONFIG, digest: digestOf(CONFIG, 'sha256'), size: CONFIG.length },
    layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: digest('layer'), size: 9 }],
  }),
);

/** A node whose cluster knows no layer, and whose snapshotter answers as `says`; undefined: it takes the offer and is silent. */
async function pull(says: readonly (LazyAnswer | undefined)[]): Promise<number> {
  const offers = new Offers({ nowMs });
  const unknown = async (): Promise<never> => {
    throw new CodedError('BLOB_UNKNOWN');
  };
  const cluster = { document: { conversions: [] }, upstream: () => ({}) } as unknown as Cluster;
  const images = new LazyImages(
    {
      cluster,
      clusterKey: Buffer.alloc(32),
      proxies: { json: unknown } as never,
      offers,
      log: silentLogger(),
      nowMs,
    },
    { waitMs: 50, doubtMs: 200 },
  );
  images.note(TARGET, { digest: digestOf(MANIFEST, 'sha256'), bytes: MANIFEST } as never);
  const over = new AbortController();
  let asked = 0;
  const snapshotter = (async () => {
    while (!over.signal.aborted)
      for (const { id } of await offers.next(1_000, over.signal)) {
        const answer = says[asked++];
        if (answer !== undefined) offers.answer(id, answer);
      }
  })();
  try {
    const name = { ...TARGET, digest: digestOf(CONFIG, 'sha256') };
    await images.beforeBlob(name, async () => CONFIG, { isRuntime: true, signal: NEVER });
    return asked;
  } finally {
    over.abort();
    await snapshotter;
  }
}

t.test('a config of which the snapshotter says nothing does not go out', { timeout: 60_000 }, async (t) => {
  await t.rejects(pull([]), { code: 'LAYER_UNPROVEN', message: /did not say in time/ });
});

t.test('it goes out once it said so', { timeout: 60_000 }, async (t) => {
  t.equal(await pull([{ isShown: false }]), 1);
});
