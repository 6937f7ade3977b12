import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { FORMATS } from '@sepia/lazy/convert/layer-job';
import { type BigFile, writeBigImage } from '@sepia/test-support/big/big-image';
import { convertBig } from '@sepia/test-support/big/convert-big';
import { MemoryGroup } from '@sepia/test-support/big/memory-group';
import t from 'tap';

const MIB = 1024 * 1024;
/** A layer that memory does not hold, compressed or not; `npm run bench -- convert-big` takes 10 GiB and files beyond 4 GiB. */
const TAR_BYTES = 192 * MIB;
const SPARSE_BYTES = 128 * MIB;
const LIMIT_BYTES = 224 * MIB;
const LIMIT_MS = 300_000;

function whyNot(): string | undefined {
  const group = MemoryGroup.create('sepia-probe', LIMIT_BYTES);
  if (typeof group === 'string') return group;
  group.remove();
  return undefined;
}

t.test('a layer larger than the memory that there is', { skip: whyNot() ?? false }, async (t) => {
  // On a disk: what lies in memory would count.
  const dir = mkdtempSync('/var/tmp/sepia-big-');
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const source = join(dir, 'source');
  mkdirSync(source);
  const image = { tarBytes: TAR_BYTES, sparseBytes: SPARSE_BYTES, compression: 'gzip' } as const;
  const files: ReadonlyMap<string, BigFile> = await writeBigImage(source, image);
  for (const format of FORMATS)
    await t.test(`is converted to ${format} and verified`, async (t) => {
      const job = { source, files, dir, format, level: 1, limitBytes: LIMIT_BYTES, limitMs: LIMIT_MS };
      const result = await convertBig(job);
      if (typeof result === 'string') return t.fail(result);
      const { convert, verify, wrong, kind } = result;
      t.equal(convert.code, 0, convert.stderr);
      t.equal(verify?.code, 0, `${verify?.stdout}${verify?.stderr}`);
      t.same(wrong, [], 'every file has the content that was written');
      const own = [convert, verify].map((run) => Math.round((run?.ownBytes ?? 0) / MIB));
      t.comment(`${kind}: conversion ${own[0]} MiB, verification ${own[1]} MiB of its own`);
    });
});
