import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { COMPRESSORS } from '@sepia/lazy/pack/unpack';
import { run } from '@sepia/test-support/testbed';
import t, { type Test } from 'tap';
import { ODD_IMAGES, stacked } from '../../shared/lazy/test/support/odd-images.ts';
import { converted, facts } from './support/nydus-on-disk.ts';

/** Nydus's own tool judges what we write. It is not run with the other tests: building it takes minutes. */
const JUDGE = process.env['NYDUS_IMAGE'] ?? '/usr/bin/nydus-image';
const HOW =
  'cargo install nydus-rs --version 2.2.0 --locked --bin nydus-image --root ./judge; NYDUS_IMAGE=./judge/bin/nydus-image';
const LIMIT_MS = 30_000;

async function accepted(t: Test, args: readonly string[], what: string): Promise<void> {
  const { code, stdout, stderr } = await run(JUDGE, args, {}, LIMIT_MS);
  t.equal(code, 0, code === 0 ? what : `${what}: ${stdout}${stderr}`);
}

for (const compressor of COMPRESSORS)
  for (const [name, tars, meaning] of ODD_IMAGES)
    t.test(
      `nydus-image accepts what we write, ${compressor}: ${name}`,
      { skip: existsSync(JUDGE) ? false : `needs nydus-image: ${HOW}` },
      async (t) => {
        const dir = t.testdir();
        const { bootstrap, blobDir, blobs } = await converted(dir, tars, compressor);
        await accepted(t, ['check', '--blob-dir', blobDir, bootstrap], 'the bootstrap of the image');
        for (const blob of blobs)
          await accepted(t, ['check', '--blob-dir', blobDir, blob], 'the bootstrap in a blob');
        const merged = ['merge', '--bootstrap', join(dir, 'merged'), '--blob-dir', blobDir, ...blobs];
        await accepted(t, merged, 'its own merge of the blobs');
        // It unpacks images of one blob only.
        if (tars.length !== 1) return;
        const tar = join(dir, 'unpacked.tar');
        await accepted(t, ['unpack', '--blob', blobs[0]!, '--output', tar, bootstrap], 'it is unpacked');
        const unpacked = facts(stacked([readFileSync(tar)]));
        for (const [path, node] of Object.entries(facts(stacked(meaning))))
          t.same(unpacked[path], node, path);
      },
    );
