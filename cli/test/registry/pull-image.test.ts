import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import t from 'tap';
import { resolveImage } from '../../src/registry/pull-image.ts';
import type { RegistryClient } from '../../src/registry/registry-client.ts';

/** A registry of these manifests, and of nothing else. */
function clientOf(manifests: ReadonlyMap<string, { bytes: Buffer; mediaType: string }>): RegistryClient {
  const pullManifest = async (_repository: string, reference: string) => {
    const found = manifests.get(reference);
    if (found === undefined) throw new CodedError('MANIFEST_UNKNOWN', { detail: { reference } });
    return { ...found, digest: digestOf(found.bytes) };
  };
  return { pullManifest } as unknown as RegistryClient;
}

function entry(text: string, mediaType?: string): { digest: Digest; size: number; mediaType?: string } {
  return {
    digest: digestOf(Buffer.from(text)),
    size: text.length,
    ...(mediaType === undefined ? {} : { mediaType }),
  };
}

t.test('an index is read whatever type it is served under, and whatever types it names', async (t) => {
  const layer = entry('layer', 'application/octet-stream');
  const image = JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [layer] });
  const part = entry('part', 'application/vnd.example.part');
  const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [part, entry(image)] };
  const client = clientOf(
    new Map([
      ['v1', { bytes: Buffer.from(JSON.stringify(index)), mediaType: DOCKER_MANIFEST }],
      [digestOf(Buffer.from(image)), { bytes: Buffer.from(image), mediaType: OCI_MANIFEST }],
    ]),
  );
  const { manifests, blobs } = await resolveImage(client, 'team/app', 'v1');
  t.equal(manifests.length, 2);
  t.same(
    blobs.map(({ digest }) => digest),
    [part.digest, layer.digest],
  );
});

t.test('an image that an index names and nobody has is an error', async (t) => {
  const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [entry('gone', OCI_MANIFEST)] };
  const client = clientOf(
    new Map([['v1', { bytes: Buffer.from(JSON.stringify(index)), mediaType: OCI_INDEX }]]),
  );
  await t.rejects(resolveImage(client, 'team/app', 'v1'), { code: 'MANIFEST_UNKNOWN' });
});

t.test('an index of no type whose image nobody has is an error, too: it is no blob', async (t) => {
  const inner = JSON.stringify({
    schemaVersion: 2,
    mediaType: OCI_INDEX,
    manifests: [entry('gone', OCI_MANIFEST)],
  });
  const outer = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [entry(inner)] };
  const client = clientOf(
    new Map([
      ['v1', { bytes: Buffer.from(JSON.stringify(outer)), mediaType: OCI_INDEX }],
      [digestOf(Buffer.from(inner)), { bytes: Buffer.from(inner), mediaType: OCI_INDEX }],
    ]),
  );
  await t.rejects(resolveImage(client, 'team/app', 'v1'), { code: 'MANIFEST_UNKNOWN' });
});
