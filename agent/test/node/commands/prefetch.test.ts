import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import t from 'tap';
import { prefetch } from '../../../src/node/commands/prefetch.ts';

function indexOf(text: string, mediaType?: string): string {
  const type = mediaType === undefined ? {} : { mediaType };
  const named = { digest: digestOf(Buffer.from(text)), size: text.length, ...type };
  return JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: [named] });
}

t.test('an index of no type whose image nobody has is no blob', async (t) => {
  const inner = indexOf('gone', OCI_MANIFEST);
  const outer = indexOf(inner);
  const bytes = new Map(
    [inner, outer].map((text) => [digestOf(Buffer.from(text)) as string, Buffer.from(text)]),
  );
  const get = async (_target: object, { digest }: { digest: string }) => {
    const found = bytes.get(digest);
    if (found === undefined) throw new CodedError('MANIFEST_UNKNOWN', { detail: { reference: digest } });
    return { bytes: found, mediaType: OCI_INDEX, digest };
  };
  const ahead = async (): Promise<void> => void t.fail('nothing is fetched');
  const deps = { manifests: { get }, ahead, architecture: 'amd64' } as unknown as Parameters<
    typeof prefetch
  >[0];
  const detail = {
    upstream: 'hub',
    repository: 'team/app',
    manifest: digestOf(Buffer.from(outer)),
    platforms: 'all',
  } as const;
  const run = prefetch(
    deps,
    detail as Parameters<typeof prefetch>[1],
    () => undefined,
    new AbortController().signal,
  );
  await t.rejects(run, { code: 'MANIFEST_UNKNOWN' });
});
