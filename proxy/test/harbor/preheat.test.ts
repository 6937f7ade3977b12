import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { H_UPSTREAM_AUTHORIZATION } from '@sepia/cluster/api/headers';
import type { Cluster } from '@sepia/cluster/cluster';
import type { NodeCommands } from '@sepia/cluster/node-commands';
import t from 'tap';
import type { OriginRequest, Origins } from '../../src/cluster/origins.ts';
import { Preheat } from '../../src/harbor/preheat.ts';

const NAMES = ['config', 'layer-1', 'layer-2'];
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';

function blob(name: string, mediaType: string): { mediaType: string; digest: Digest; size: number } {
  return { mediaType, digest: digestOf(Buffer.from(name)), size: name.length };
}

const [CONFIG, ...LAYERS] = NAMES;
const MANIFEST = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    config: blob(CONFIG!, 'application/vnd.oci.image.config.v1+json'),
    layers: LAYERS.map((name) => blob(name, 'application/vnd.oci.image.layer.v1.tar')),
  }),
);

async function* bodyOf(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** An origin whose registry takes a token for the manifest, and refuses it once it was asked for all blobs with it. */
function expiring(token: string): { origins: Origins; served: string[] } {
  const asked = Promise.withResolvers<void>();
  const served: string[] = [];
  let count = 0;
  const call = async (_id: string, { path, headers }: OriginRequest): Promise<unknown> => {
    const brought = headers?.[H_UPSTREAM_AUTHORIZATION];
    if (path.includes('manifest')) {
      const found = { 'docker-content-digest': digestOf(MANIFEST), 'content-type': MANIFEST_TYPE };
      return { status: 200, headers: found, body: bodyOf(MANIFEST) };
    }
    if (brought === token) {
      count += 1;
      if (count === NAMES.length) asked.resolve();
      await asked.promise;
      throw new CodedError('UPSTREAM_DENIED');
    }
    served.push(path);
    const state = { state: 'final', sizeBytes: 1, haveBytes: 1, holders: ['origin-1'], failed: {} };
    return { status: 200, headers: {}, body: bodyOf(Buffer.from(JSON.stringify(state))) };
  };
  const ids = ['origin-1'];
  const placement = () => ({ owners: ids, candidates: ids, writeQuorum: 1 });
  return { origins: { call, tries: () => ids, placement } as unknown as Origins, served };
}

t.test('a token that is refused for several blobs at once is left for all of them', async (t) => {
  const { origins, served } = expiring('Bearer of-harbor');
  const preheat = new Preheat(
    {
      origins,
      cluster: { findMember: () => undefined } as unknown as Cluster,
      commands: {} as NodeCommands,
      log: silentLogger(),
      nowMs: () => 0,
    },
    {
      image: {
        upstream: 'harbor',
        repository: parseRepositoryName('library/app'),
        reference: { kind: 'digest', digest: digestOf(MANIFEST) },
      },
      scope: 'single_seed_peer',
      authorization: 'Bearer of-harbor',
      commandId: 'preheat-1',
    },
  );
  await preheat.run(new AbortController().signal);
  t.equal(served.length, NAMES.length);
  t.same(preheat.counts, { done: NAMES.length, all: NAMES.length });
});
