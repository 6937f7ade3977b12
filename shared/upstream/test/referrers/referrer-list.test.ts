import { digestOf } from '@sepia/base/digest';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { nextQuery } from '../../src/answer-facts.ts';
import { referrersOf, referrersTag } from '../../src/referrers/referrer-list.ts';

const BOX = { interruptAfterTimeLimit: 3_000, markInterruptAsFailure: false };
const DIGEST = digestOf(Buffer.from('x'));

t.test('a list keeps what is a descriptor, and of that only what is known', async (t) => {
  const one = {
    mediaType: OCI_MANIFEST,
    digest: DIGEST,
    size: 3,
    artifactType: 'a/b',
    annotations: { k: 'v' },
  };
  const list = (manifests: unknown): unknown => referrersOf(Buffer.from(JSON.stringify({ manifests })));
  t.same(list([{ ...one, urls: ['http://evil.example'], data: 'x'.repeat(100) }]), [one]);
  t.same(list([{ ...one, digest: 'sha256:1' }, { ...one, size: '3' }, null, 7, [one]]), []);
  t.same(list([{ digest: DIGEST, size: 3, artifactType: 7, annotations: ['x'] }]), [
    { mediaType: 'application/octet-stream', digest: DIGEST, size: 3 },
  ]);
  t.same(referrersOf(Buffer.from('{"schemaVersion":2}')), []);
  t.same(referrersOf(Buffer.from(JSON.stringify({ mediaType: OCI_INDEX, manifests: null }))), []);
  for (const bad of ['{}', '{"errors":[]}', '', 'null', '[', '7', '{"manifests":{}}', '"x"'])
    t.equal(referrersOf(Buffer.from(bad)), undefined, bad);
});

t.test('fuzz: no answer throws, and no more comes out than went in', async (t) => {
  const fields = fc.constantFrom(
    'mediaType',
    'digest',
    'size',
    'artifactType',
    'annotations',
    '__proto__',
    'x',
  );
  const values = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.constantFrom(DIGEST, `sha512:${'a'.repeat(128)}`, OCI_MANIFEST, -1, 2 ** 53, 1.5),
  );
  const lists = fc.record({
    manifests: fc.array(fc.oneof(values, fc.dictionary(fields, values)), { maxLength: 9 }),
  });
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.json().map((text) => Buffer.from(text)),
    lists.map((value) => Buffer.from(JSON.stringify(value))),
    lists.map((value) => Buffer.from(JSON.stringify(value)).subarray(0, -1)),
  );
  fc.assert(
    fc.property(bytes, (given) => {
      const found = referrersOf(given) ?? [];
      for (const entry of found) {
        referrersTag(entry.digest);
        if (!Number.isSafeInteger(entry.size) || typeof entry.mediaType !== 'string') return false;
      }
      return Buffer.byteLength(JSON.stringify(found)) <= given.length * 3 + found.length * 60 + 2;
    }),
    BOX,
  );
  t.pass('none did');
});

t.test('fuzz: of a Link header only a query comes back, whatever it holds', async (t) => {
  const part = fc.oneof(
    fc.string(),
    fc.constantFrom(
      '<',
      '>',
      ';',
      ',',
      ' rel=next',
      '; rel="next"',
      '?n=1',
      'http://[',
      'http://a@b:0',
      '%',
      '#',
    ),
  );
  const links = fc.oneof(
    fc.array(part, { maxLength: 12 }).map((parts) => parts.join('')),
    fc.webUrl({ withQueryParameters: true }).map((url) => `<${url}>; rel="next"`),
  );
  fc.assert(
    fc.property(links, (link) => {
      const query = nextQuery(link);
      if (query === undefined) return true;
      const next = new URL(`http://asked.invalid/v2/a/referrers/x?${query}`);
      return next.host === 'asked.invalid' && next.hash === '' && query.length <= link.length * 9;
    }),
    BOX,
  );
  for (const hostile of [
    '<'.repeat(50_000),
    `<${'x>;'.repeat(20_000)}`,
    `<a>${' '.repeat(50_000)};`,
    '<a>;'.repeat(9_000),
  ])
    t.equal(nextQuery(hostile), undefined, 'no header takes more than linear time');
});
