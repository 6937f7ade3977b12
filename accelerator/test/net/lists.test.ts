import { digestOf } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import t from 'tap';
import { listed, referrersOf } from '../../src/net/lists.ts';
import type { Proxies } from '../../src/net/proxies.ts';

const SIGNAL = new AbortController().signal;
const PLACE = { upstream: 'u', repository: 'a' };
const DIGEST = digestOf(Buffer.from('x'));

/** Proxies that answer this text to everything. */
const saying = (text: string): Proxies =>
  ({ bytes: async () => ({ bytes: Buffer.from(text), headers: {} }) }) as unknown as Proxies;

async function tagsIn(text: string): Promise<string[]> {
  const tags: string[] = [];
  const list = { path: '/v2/a/tags/list', key: 'tags' } as const;
  for await (const tag of listed(saying(text), 'u', list, SIGNAL)) tags.push(tag);
  return tags;
}

t.test('tags: null is an empty list, anything else is none', async (t) => {
  t.same(await tagsIn('{"tags":["a",1,"b"]}'), ['a', 'b']);
  for (const text of ['{"tags":null}', '{"tags":[]}', '{}']) t.same(await tagsIn(text), []);
  for (const text of ['', 'null', '1', '<html>', '{"tags":{}}'])
    await t.rejects(tagsIn(text), { code: 'PEER_HTTP', message: /no list of tags/ }, text);
});

t.test('referrers: only descriptors count', async (t) => {
  const sound = { mediaType: OCI_MANIFEST, digest: DIGEST, size: 1 };
  const bad = [null, 1, {}, { ...sound, digest: 'x' }, { ...sound, digest: 1 }, { ...sound, size: 'x' }];
  const manifests = [...bad, { ...sound, annotations: { a: 'b', c: 1 } }];
  const answer = JSON.stringify({ manifests });
  t.same(await referrersOf(saying(answer), PLACE, DIGEST, SIGNAL), [{ ...sound, annotations: { a: 'b' } }]);
  for (const text of ['', 'null', '<html>', '{"manifests":{}}'])
    await t.rejects(referrersOf(saying(text), PLACE, DIGEST, SIGNAL), { code: 'PEER_HTTP' }, text);
});
