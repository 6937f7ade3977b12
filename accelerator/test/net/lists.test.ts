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

t.test('referrers: the next pages too, of one type, as far as a list may go', async (t) => {
  const asked: string[] = [];
  const proxies = (pages: number, pad = ''): Proxies =>
    ({
      bytes: async ({ path }: { path: string }) => {
        asked.push(path);
        const entry = { mediaType: OCI_MANIFEST, digest: digestOf(Buffer.from(path)), size: 1 };
        const link = `</v2/a/referrers/x?artifactType=a%2Fb&last=${asked.length}>; rel="next"`;
        const headers = asked.length < pages ? { link } : {};
        return { bytes: Buffer.from(JSON.stringify({ manifests: [entry], pad })), headers };
      },
    }) as unknown as Proxies;
  t.equal((await referrersOf(proxies(3), PLACE, DIGEST, SIGNAL, 'a/b')).length, 3);
  const path = `/v2/a/referrers/${DIGEST}?artifactType=a%2Fb`;
  t.same(asked.splice(0), [path, `${path}&last=1`, `${path}&last=2`]);
  await referrersOf(proxies(1), PLACE, DIGEST, SIGNAL);
  t.same(asked.splice(0), [`/v2/a/referrers/${DIGEST}`]);
  t.equal((await referrersOf(proxies(1_000_000), PLACE, DIGEST, SIGNAL)).length, 100);
  asked.length = 0;
  const long = proxies(1_000_000, ' '.repeat(4 * 1024 * 1024));
  t.equal((await referrersOf(long, PLACE, DIGEST, SIGNAL)).length, 4);
  const same = { bytes: Buffer.from('{"manifests":[]}'), headers: { link: '<?last=1>; rel="next"' } };
  t.same(await referrersOf({ bytes: async () => same } as unknown as Proxies, PLACE, DIGEST, SIGNAL), []);
});
