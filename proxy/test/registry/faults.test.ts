import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { Health, UNTIL_IT_ANSWERS } from '@sepia/cluster/core/health';
import { createRegistryApp } from '@sepia/face/registry-app';
import { createGate } from '@sepia/http/gate';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { Chance } from '@sepia/swarm/core/random';
import { seededBytes } from '@sepia/test-support/upstream/fake-upstream';
import { type VirtualAnswer, virtualGet } from '@sepia/test-support/virtual-get';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t from 'tap';
import { Origins } from '../../src/cluster/origins.ts';
import { readBlob } from '../../src/registry/blobs.ts';
import { createManifestCache } from '../../src/registry/core/manifest-cache.ts';
import { readManifest } from '../../src/registry/manifests.ts';
import { type Content, truthOf } from '../support/answers.ts';
import { FaultyOrigins } from '../support/faulty-origins.ts';

/** Of each way. */
const RUNS = Number(process.env['SEPIA_FAULT_RUNS'] ?? 70);
/** Requests of a run: two at once, then one more, which the proxy's memory may answer. */
const AT_ONCE = 2;
const BLOB = truthOf(Buffer.from(seededBytes(300_000, 'layer')));
const MANIFEST = manifestOf();

const WAYS = {
  'a manifest': { method: 'GET', kind: 'manifests' },
  'HEAD of a manifest': { method: 'HEAD', kind: 'manifests' },
  'HEAD of a blob': { method: 'HEAD', kind: 'blobs' },
} as const;
type Way = (typeof WAYS)[keyof typeof WAYS];

function manifestOf(): Content {
  const layers = [{ mediaType: 'application/octet-stream', digest: BLOB.digest, size: BLOB.bytes.length }];
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, layers }));
  return { bytes, digest: digestOf(bytes) };
}

function isRight({ method, kind }: Way, { headers, body }: VirtualAnswer): boolean {
  const { bytes } = kind === 'manifests' ? MANIFEST : BLOB;
  // A blob's size may be left unsaid, and never be another one.
  const said = headers['content-length'] ?? (kind === 'blobs' ? String(bytes.length) : undefined);
  return said === String(bytes.length) && body.equals(method === 'GET' ? bytes : Buffer.alloc(0));
}

/** A proxy's answers to some requests for one thing, while origins fail or send what they like. */
async function run(way: Way, seed: number): Promise<VirtualAnswer[]> {
  const time = new VirtualTime().install();
  try {
    const chance = new Chance(seed);
    const weather = { timing: chance.next() < 0.8, wrong: chance.next() < 0.7, fetchRate: undefined };
    const faulty = new FaultyOrigins(BLOB, weather, chance, MANIFEST);
    const takesDeletes = () => seed % 2 === 0;
    const origins = new Origins({
      cluster: faulty.cluster,
      client: faulty,
      health: new Health(Date.now, UNTIL_IT_ANSWERS),
    });
    const log = silentLogger();
    const cache = createManifestCache(1_000_000, takesDeletes);
    const reads = {
      origins,
      cache,
      isRechecked: () => seed % 3 === 0,
      gate: undefined as never,
      nowMs: Date.now,
    };
    const handlers = {
      manifest: readManifest(reads),
      blob: readBlob({ origins, log, takesDeletes, stallMs: 30_000 }),
      tags: () => Promise.resolve(),
    };
    const gate = createGate({ open: { '/*': 'anyone' } });
    const upstreams = () => faulty.cluster.upstreams;
    const app = createRegistryApp({ log, gate, handlers, upstreams }, { defaultUpstream: 'local' });
    const one = async (): Promise<VirtualAnswer> => {
      const named = chance.next() < 0.5 ? 'v1' : MANIFEST.digest;
      const reference = way.kind === 'manifests' ? named : BLOB.digest;
      return await virtualGet(app.callback(), `/v2/app/${way.kind}/${reference}`, { method: way.method });
    };
    const answers = await time.settle(Promise.all(Array.from({ length: AT_ONCE }, one)));
    return [...answers, await time.settle(one())];
  } finally {
    time.uninstall();
  }
}

for (const [name, way] of Object.entries(WAYS))
  t.test(`${name} at a proxy: no answer is wrong, whatever its origins do`, async (t) => {
    const wrong: string[] = [];
    const count = { right: 0, cut: 0, refused: 0 };
    for (let seed = 1; seed <= RUNS; seed++)
      for (const answer of await run(way, seed)) {
        const isWhole = answer.complete && answer.status < 300;
        if (answer.status === 500 || (isWhole && !isRight(way, answer)))
          wrong.push(`seed ${seed}: ${answer.status} ${JSON.stringify(answer.headers)}`);
        else if (isWhole) count.right += 1;
        else if (answer.status < 300) count.cut += 1;
        else count.refused += 1;
      }
    t.comment(JSON.stringify(count));
    t.same(wrong, [], `wrong bytes completed in ${RUNS} runs`);
    t.ok(count.right > 0, JSON.stringify(count));
  });
