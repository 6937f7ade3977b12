import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { isTwofold } from '../../../src/lazy/core/twofold.ts';

const WATCHED = { '': ['rootfs', 'mediatype'], rootfs: ['diff_ids'], 'layers.*': ['digest'] };

t.test('what two readers understand differently', async (t) => {
  const twofold = [
    '{"rootfs":{"diff_ids":[1]},"RootFS":{"diff_ids":[2]}}',
    '{"rootfs":{"diff_ids":[1]},"rootfs":{}}',
    '{"RootFS":{}}',
    '{"rootfſ":{}}',
    '{"\\u0052ootfs":{}}',
    '{"rootfs":{"Diff_IDs":[]}}',
    '{"rootfs":{"diff_ids":[],"a":{},"diff_ids":[]}}',
    '{"layers":[{"digest":1},{"digest":1,"DIGEST":2}]}',
    '{"mediatype":1}',
  ];
  for (const text of twofold) t.ok(isTwofold(text, WATCHED), text);
  const plain = [
    '{"rootfs":{"diff_ids":["a"]},"mediaType":"x"}',
    '{"config":{"Labels":{"rootfs":1,"RootFS":2},"rootfs":{"Diff_IDs":1}}}',
    '{"a":"\\"RootFS\\":","b":["RootFS"],"c":[{"RootFS":1}]}',
    '{"layers":[{"digest":1},{"digest":2}]}',
    '{"__proto__":{"rootfs":1},"constructor":{"RootFS":1},"toString":[{"a":1}]}',
    '[]',
    '{}',
    '"RootFS"',
  ];
  for (const text of plain) t.notOk(isTwofold(text, WATCHED), text);
});

t.test(
  'any JSON that JavaScript writes with right keys is plain, and is twofold with a second key',
  async () => {
    const others = fc.dictionary(
      fc.string().filter((key) => !/rootf|media/i.test(key)),
      fc.jsonValue(),
    );
    fc.assert(
      fc.property(others, fc.jsonValue(), (rest, value) => {
        const text = JSON.stringify({ ...rest, rootfs: { diff_ids: value } });
        const twice = `${text.slice(0, -1)},"rootfs":${JSON.stringify(value)}}`;
        return !isTwofold(text, WATCHED) && isTwofold(twice, WATCHED);
      }),
    );
  },
);
